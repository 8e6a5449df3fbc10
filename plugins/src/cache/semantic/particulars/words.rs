//! The words that are particulars, in English, German, French and Spanish.
//!
//! A line is a meaning and its words; `*` stands for any ending. If one half of a pair is also a common filler ("more
//! or less", "set up"), only the other half is listed: its presence is the difference.

/// A list of meanings.
type Words = &'static [(&'static str, &'static str)];

/// Negations and directions.
const SENSES: Words = &[
    (
        "not",
        "not no none nothing nobody neither nor cannot dont cant wont doesnt isnt didnt couldnt shouldnt wouldnt arent wasnt werent havent \
         hasnt ain't nicht nichts niemand nein kein* weder pas rien aucun aucune non nada nadie ningún ninguna ninguno tampoco",
    ),
    ("never", "never nie niemals jamais nunca jamás"),
    ("without", "without ohne sans sin"),
    ("except", "except excluding außer ausser sauf excepto salvo"),
    ("instead", "instead rather statt anstatt plutôt"),
    ("only", "only nur seulement solo sólo solamente"),
    ("more", "more mehr más mas exceed* greater bigger larger größer höher higher mayor supérieur*"),
    ("less", "less fewer weniger moins menos smaller lower kleiner niedriger menor inférieur*"),
    ("least", "least fewest wenigsten wenigste"),
    ("most", "most meisten"),
    ("worse", "worse worst schlechter schlechteste* schlimmste* pire pires peor peores"),
    ("max", "max max. maximum maximal* maximale* máximo máxima highest biggest largest longest höchste* größte*"),
    ("min", "min minimum minimal* mínimo mínima lowest smallest shortest niedrigste* kleinste*"),
    ("longer", "longer länger"),
    ("shorter", "shorter kürzer"),
    ("faster", "fast quick quickly faster fastest schnell* rapide* rápid*"),
    ("slower", "slow slowly slower slowest langsam* lent lente lento lenta"),
    ("older", "older oldest älter* älteste*"),
    ("younger", "younger youngest newer newest jünger* jüngste* neuer neueste*"),
    ("cheap", "cheap cheaper cheapest billig* barat*"),
    ("expensive", "expensive dearer teuer* teurer teuerste* caro cara cher chère"),
    ("before", "before prior vor vorher avant antes"),
    ("after", "after nach nachher après después"),
    ("since", "since seit depuis desde"),
    ("until", "until till bis jusqu* hasta"),
    ("above", "above over über oberhalb dessus encima"),
    ("below", "below under beneath unter unterhalb dessous debajo sous bajo"),
    ("down", "down herunter hinunter runter downward* downwards"),
    ("out", "out outside hinaus heraus dehors fuera"),
    ("enable", "enable* enabling activat* aktivier* activer activez activar activa einschalten anschalten"),
    (
        "disable",
        "disable* disabling deactivat* deaktivier* désactiv* desactiv* off ausschalten abschalten ausgeschaltet abgeschaltet apagar éteindre",
    ),
    ("increase", "increas* raise raises raised raising erhöh* steiger* augment* aument* incrementar"),
    ("decrease", "decreas* reduc* reduz* senken verringer* diminu* réduire réduit reducir dismin* shrink*"),
    ("include", "include* including inclu* einschließ* einbezieh* mit-einschließ*"),
    ("exclude", "exclude* exclud* exclu* ausschließ* ausschliess*"),
    ("buy", "buy buys buying bought purchas* kaufen kaufe kauft kauf einkaufen achet* achat compr*"),
    ("sell", "sell sells selling sold sale verkauf* vend* venta"),
    ("add", "add adds added adding hinzufüg* ajout* añad* agreg*"),
    ("remove", "remov* delet* uninstall* lösch* entfern* deinstallier* supprim* désinstall* elimin* borrar desinstal*"),
    ("install", "install* instal*"),
    ("start", "start* begin* began launch* anfang* beginn* démarr* commenc* empez* comenz* inici*"),
    ("stop", "stop* halt* quit* finish* end ends ended ending anhalten beend* arrêt* termin* parar deten*"),
    ("open", "open* öffn* ouvr* abrir abre"),
    ("close", "close* closing schließen schliesst schließt ferm* cerrar cierra"),
    ("allow", "allow* permit* grant* erlaub* zulass* autoris* permet* autoriz*"),
    ("deny", "deny denies denied denying block* forbid* prohibit* revok* ban bans banned verbiet* verbot* sperr* interdi* prohib* bloque*"),
    ("import", "import imports imported importing importieren importiere importer importar"),
    ("export", "export*"),
    ("upload", "upload* hochlad* téléverser subir"),
    ("download", "download* herunterlad* télécharg* descarg*"),
    ("push", "push pushes pushed pushing"),
    ("pull", "pull pulls pulled pulling"),
    ("encrypt", "encrypt* encod* verschlüssel* chiffr* cifrar"),
    ("decrypt", "decrypt* decod* entschlüssel* déchiffr* descifrar"),
    ("lock", "lock locks locked locking"),
    ("unlock", "unlock* entsperr* déverrouill* desbloque*"),
    ("connect", "connect* verbind* connecter conectar"),
    ("disconnect", "disconnect* trenn* déconnect* desconect*"),
    ("subscribe", "subscribe* subscrib* abonnier*"),
    ("unsubscribe", "unsubscrib* cancel* kündig* annul*"),
    ("hide", "hide hides hiding hidden versteck* ausblend* verberg* masqu* cacher ocult*"),
    ("ascending", "ascending asc aufsteigend croissant ascendente"),
    ("descending", "descending desc absteigend décroissant descendente"),
    ("left", "left links gauche izquierda"),
    ("right", "right rechts droite derecha"),
    ("north", "north northern nord norden norte"),
    ("south", "south southern süd süden sud sur"),
    ("east", "east eastern ost osten est este"),
    ("west", "west western westen ouest oeste"),
    ("hot", "hot hotter heiß chaud caliente"),
    ("cold", "cold colder kalt froid frío"),
    ("win", "win wins winning won gewinn* gewonnen gagn* ganar"),
    ("lose", "lose loses losing lost verlier* verloren perd*"),
    ("send", "send sends sending sent senden envoy* enviar"),
    ("receive", "receiv* empfang* erhalten recev* reçoi* recib*"),
    ("lend", "lend lends lending verleih* prêter prestar"),
    ("borrow", "borrow* ausleih* emprunt*"),
    ("true", "true wahr vrai verdadero"),
    ("false", "false falsch faux falso"),
    ("positive", "positive positiv positif"),
    ("negative", "negative negativ négatif"),
    ("legal", "legal legally"),
    ("illegal", "illegal* unlawful*"),
    ("impossible", "impossib* unmöglich* imposib*"),
    ("women", "women woman female females frauen femmes mujeres"),
    ("men", "men male males männer hommes hombres"),
    ("boil", "boil boils boiling siede* kochen"),
    ("freeze", "freeze freezes freezing gefrier*"),
    ("easy", "easy easily leicht* einfach* facile* fácil*"),
    ("difficult", "difficult hard schwer* schwierig* difficile* difícil*"),
    ("safe", "safe safely"),
    ("unsafe", "unsafe dangerous*"),
    ("all", "all every alle* tous toutes todos todas"),
    ("any", "some einige quelques algunos algunas"),
];

/// Times, and positions in a sequence.
const TIMES: Words = &[
    ("monday", "monday* montag* lundi* lunes"),
    ("tuesday", "tuesday* dienstag* mardi* martes"),
    ("wednesday", "wednesday* mittwoch* mercredi* miércoles"),
    ("thursday", "thursday* donnerstag* jeudi* jueves"),
    ("friday", "friday* freitag* vendredi* viernes"),
    ("saturday", "saturday* samstag* sonnabend* samedi* sábado*"),
    ("sunday", "sunday* sonntag* dimanche* domingo*"),
    ("january", "january januar jänner janvier enero"),
    ("february", "february februar février febrero"),
    ("march", "märz mars marzo"),
    ("april", "april avril abril"),
    ("may", "mai mayo"),
    ("june", "june juni juin junio"),
    ("july", "july juli juillet julio"),
    ("august", "august août agosto"),
    ("september", "september septembre septiembre"),
    ("october", "october oktober octobre octubre"),
    ("november", "november novembre noviembre"),
    ("december", "december dezember décembre diciembre"),
    ("today", "today heute aujourd'hui hoy"),
    ("tomorrow", "tomorrow morgen demain mañana"),
    ("yesterday", "yesterday gestern hier ayer"),
    ("tonight", "tonight"),
    ("now", "currently jetzt maintenant ahora"),
    ("last", "last letzte* vergangene* vorige* dernier* dernière* passé passée último* última* pasado pasada previous* ago final"),
    ("next", "next nächste* kommende* prochain* próximo* próxima* following upcoming"),
    ("first", "first erste* premier* première* primer* primero* primera*"),
    ("second", "zweite* deuxième* segundo* segunda*"),
    ("third", "third dritte* troisième* tercer*"),
    ("fourth", "fourth vierte* quatrième* cuarto*"),
    ("fifth", "fifth fünfte* cinquième* quinto*"),
    ("morning", "morning matin vormittag*"),
    ("evening", "evening abend* soir"),
    ("night", "night nacht nuit noche"),
    ("daily", "daily täglich*"),
    ("weekly", "weekly wöchentlich*"),
    ("monthly", "monthly monatlich*"),
    ("yearly", "yearly annual annually jährlich*"),
];

/// Units after a number.
const UNITS: Words = &[
    ("%", "% percent prozent pourcent pour-cent"),
    ("$", "$ dollar dollars usd dólar dólares"),
    ("€", "€ euro euros eur"),
    ("£", "£ pound pounds gbp pfund"),
    ("s", "s sec secs second seconds sekunde sekunden seconde secondes segundo segundos"),
    ("ms", "ms millisecond milliseconds"),
    ("min", "min mins minute minutes minuten minuto minutos"),
    ("h", "h hr hrs hour hours stunde stunden heure heures hora horas"),
    ("day", "d day days tag tage tagen jour jours día días"),
    ("week", "week weeks woche wochen semaine semaines semana semanas"),
    ("month", "month months monat monate monaten mois mes meses"),
    ("year", "year years yr yrs jahr jahre jahren an ans année années año años"),
    ("mm", "mm millimeter millimeters millimetre millimetres"),
    ("cm", "cm centimeter centimeters centimetre centimetres zentimeter"),
    ("m", "m meter meters metre metres mètre mètres metro metros"),
    ("km", "km kilometer kilometers kilometre kilometres kilomètres kilómetros"),
    ("mile", "mi mile miles meilen"),
    ("inch", "inch inches zoll"),
    ("ft", "ft foot feet"),
    ("g", "g gram grams gramm gramme grammes gramo gramos"),
    ("kg", "kg kilo kilos kilogram kilograms kilogramm"),
    ("lb", "lb lbs"),
    ("l", "l liter liters litre litres litro litros"),
    ("ml", "ml milliliter milliliters"),
    ("c", "°c celsius"),
    ("f", "°f fahrenheit"),
    ("°", "° degree degrees grad degrés grados"),
    ("kb", "kb kilobyte kilobytes"),
    ("mb", "mb megabyte megabytes"),
    ("gb", "gb gigabyte gigabytes"),
    ("tb", "tb terabyte terabytes"),
    ("th", "st nd rd th"),
    ("am", "am a.m"),
    ("pm", "pm p.m"),
];

/// Words that often begin a sentence and are not names.
const STARTERS: &str = "a an the i i'm we you he she it they my your our his her its their this that these those there here what which who \
    whom whose when where why how is are am was were be do does did have has had can could will would shall should may might must if in on at \
    by for from to of with and or but so then as also please tell show give explain describe write list find help make create let get go use \
    set say hi hello hey thanks thank ok okay yes well i'd i've i'll good dear summarize summarise translate compare name define calculate \
    convert generate reset fix check is someone anyone does looking need want trying suppose given imagine consider \
    wie was wer wo wann warum wieso weshalb welche welcher welches welchen ist sind war kann kannst können könnte könnten ich du er sie es wir \
    ihr der die das ein eine einen mein meine in im am auf an bei mit und oder aber bitte gib zeig zeige erkläre sag sage schreib schreibe \
    nenne hallo danke gibt hat haben habe soll sollte muss darf wenn \
    comment quel quelle quels quelles qui que quoi quand où pourquoi combien est est-ce sont peut peux peut-on puis-je je tu il elle on nous \
    vous ils elles le la les un une des du de mon ma mes dans en à au et ou mais donne montre explique écris dis bonjour merci si y existe \
    cómo qué cuál cuáles quién quiénes cuándo dónde cuánto cuántos cuánta cuántas es son está puede puedo puedes yo tú él ella nosotros el los \
    las una mi me se en y o pero por para dime dame muestra explica escribe hola gracias hay";

/// Words between a word and the one that it belongs to.
const FILLERS: &str = "the a an any my your our their this that of to in on at for its der die das den dem des ein eine einen einem einer \
    mein meine meinen le la les un une mon ma de du des el los las una mi";

fn matches(pattern: &str, word: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(stem) => word.starts_with(stem),
        None => pattern == word,
    }
}

fn meaning(words: Words, word: &str) -> Option<&'static str> {
    // An exact entry has priority over one with a common beginning.
    let exact = words.iter().find(|(_, list)| list.split_ascii_whitespace().any(|one| one == word));
    exact.or_else(|| words.iter().find(|(_, list)| list.split_ascii_whitespace().any(|one| matches(one, word)))).map(|(name, _)| *name)
}

/// The negation or direction that a word means.
pub(super) fn sense(word: &str) -> Option<&'static str> {
    meaning(SENSES, word)
}

/// The time or position that a word means. Some months also have another meaning, unless they begin with a capital.
pub(super) fn time(word: &str, capital: bool) -> Option<&'static str> {
    const CAPITAL: Words = &[
        ("january", "jan"),
        ("february", "feb"),
        ("march", "march mar"),
        ("april", "apr"),
        ("may", "may"),
        ("june", "jun"),
        ("july", "jul"),
        ("august", "aug"),
        ("september", "sep sept"),
        ("october", "oct okt"),
        ("november", "nov"),
        ("december", "dec dez"),
        ("monday", "mon"),
        ("tuesday", "tue"),
        ("wednesday", "wed"),
        ("thursday", "thu"),
        ("friday", "fri"),
        ("saturday", "sat"),
        ("sunday", "sun"),
    ];
    capital.then(|| meaning(CAPITAL, word)).flatten().or_else(|| meaning(TIMES, word))
}

/// The unit that a word means.
pub(super) fn unit(word: &str) -> Option<&'static str> {
    meaning(UNITS, word)
}

/// Whether a capital at a sentence's start has no meaning for this word.
pub(super) fn is_starter(word: &str) -> bool {
    STARTERS.split_ascii_whitespace().any(|one| one == word)
}

/// Whether a word has no meaning of its own between others.
pub(super) fn is_filler(word: &str) -> bool {
    FILLERS.split_ascii_whitespace().any(|one| one == word)
}

/// Whether the number or name after such a word matters: not Java, after 5.
pub(super) fn is_about_next(sense: &str) -> bool {
    ["not", "never", "only", "more", "less", "before", "after", "above", "below", "since", "until", "max", "min"].contains(&sense)
}

/// Words whose next word matters, whatever it is.
pub(super) fn binds(word: &str) -> Option<&'static str> {
    const BINDING: Words = &[
        ("from", "from von desde"),
        ("than", "than als"),
        ("without", "without ohne sans sin"),
        ("except", "except außer sauf excepto"),
        ("instead", "instead statt anstatt"),
    ];
    meaning(BINDING, word)
}

/// Whether "to" after this word means a direction.
pub(super) fn has_target(word: &str) -> bool {
    const TARGET: Words = &[(
        "to",
        "from von desde convert* conver* translat* migrat* switch* upgrad* downgrad* chang* transfer* umrechn* übersetz* konvertier* tradui* \
         traduc* umwandel*",
    )];
    meaning(TARGET, word).is_some()
}

/// Whether a month may follow this word: "in may".
pub(super) fn is_before_time(word: &str) -> bool {
    ["in", "since", "until", "till", "by", "of", "from", "before", "after", "last", "next", "early", "late", "mid", "every", "each"]
        .contains(&word)
}

/// Whether a word is a number in Roman numerals; from fifty on they look like words.
pub(super) fn is_roman(word: &str) -> bool {
    word.len() > 1 && word.bytes().all(|one| b"ivx".contains(&one))
}

/// Whether a word means a direction.
pub(super) fn is_towards(word: &str) -> bool {
    ["to", "into", "in", "nach", "zu", "à", "en", "a", "al"].contains(&word)
}
