//! Reads the particulars of a text, piece by piece.

use super::kind::Kind;
use super::numbers;
use super::quotes::{Piece, pieces};
use super::words;

/// The particulars in order of the text.
pub(super) fn read(text: &str) -> Vec<(Kind, String)> {
    let mut reader =
        Reader { found: Vec::new(), start: true, number: None, numeral: false, recent: Vec::new(), target: false, bound: None };
    for piece in pieces(text) {
        match piece {
            Piece::Quote(quote) => {
                reader.name(format!("\"{}\"", quote.split_whitespace().collect::<Vec<_>>().join(" ")));
                reader.start = false;
            }
            Piece::Chunk(chunk) => reader.chunk(chunk),
            Piece::Break => reader.sentence(),
        }
    }
    reader.end_number();
    reader.found
}

struct Reader {
    found: Vec<(Kind, String)>,
    /// Whether the next word begins a sentence.
    start: bool,
    /// A number that a unit or further words may follow.
    number: Option<String>,
    /// Whether it is written in words.
    numeral: bool,
    /// The last words.
    recent: Vec<String>,
    /// Whether "to" means a direction here.
    target: bool,
    /// A word that belongs to the following ones: the word, whether any word may follow, and how many are still
    /// expected.
    bound: Option<(String, bool, u8)>,
}

fn is_edge(one: char) -> bool {
    !one.is_alphanumeric() && !matches!(one, '%' | '°' | '$' | '€' | '£' | '+' | '#' | '@' | '/' | '_' | '&' | '=' | '~' | '\\' | '-')
}

/// Pictures and symbols that say something.
fn is_emoji(one: char) -> bool {
    matches!(one, '\u{2190}'..='\u{21ff}' | '\u{2600}'..='\u{27bf}' | '\u{2b00}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}')
}

fn is_latin(one: char) -> bool {
    one.is_ascii()
        || ('\u{aa}'..='\u{24f}').contains(&one)
        || ('\u{1e00}'..='\u{1eff}').contains(&one)
        || ('\u{300}'..='\u{36f}').contains(&one)
}

/// Addresses, paths and other texts with characters that words don't have.
fn is_identifier(text: &str) -> bool {
    let alphabetic = text.contains(char::is_alphabetic);
    let marked = text.contains(['_', '@', '#', '=', '\\', '&', '+', '~', '<', '>', '{', '|', '(', '[', ':', '$', '*', '^']);
    let dotted = text.split('.').all(|part| !part.is_empty()) && text.contains('.');
    let path = text.starts_with('/') || text.ends_with('/') || text.matches('/').count() > 1;
    let flag = text.starts_with('-') && text.len() > 1;
    alphabetic && (marked || dotted || path || flag || text.contains(|one: char| one.is_ascii_digit()))
}

impl Reader {
    fn sentence(&mut self) {
        self.end_number();
        self.start = true;
        self.target = false;
        self.bound = None;
    }

    fn push(&mut self, kind: Kind, value: String) {
        if matches!(kind, Kind::Number | Kind::Name)
            && let Some((word, ..)) = self.bound.take()
        {
            self.found.push((Kind::Bound, format!("{word}>{value}")));
        }
        self.found.push((kind, value));
    }

    fn name(&mut self, value: String) {
        self.end_number();
        self.push(Kind::Name, value);
    }

    fn end_number(&mut self) {
        if let Some(number) = self.number.take() {
            self.push(Kind::Number, number);
        }
    }

    fn chunk(&mut self, raw: &str) {
        let raw: String = raw.chars().map(numbers::ascii).collect();
        let ends = raw.trim_end_matches([')', '"', '”', '’', '\'', '*']).ends_with(['.', '?', '!', ':', ';', '…', '。', '？', '！']);
        let call = raw.contains("()");
        let text = raw.trim_matches(is_edge);
        // A path that begins with a dot, or a flag.
        let text = if raw.starts_with("./") || raw.starts_with("../") { raw.trim_end_matches(is_edge) } else { text };
        let text = text.trim_end_matches(['-', '=']);
        if text.contains(char::is_alphanumeric) {
            if call {
                self.name(text.to_owned());
            } else {
                self.trimmed(text);
            }
            self.start = false;
        } else if text.contains(['%', '°', '$', '€', '£']) {
            self.word(text);
        }
        if raw.contains(is_emoji) {
            self.name(raw.chars().filter(|one| is_emoji(*one)).collect());
        }
        // A comma ends a number in words, or one before its unit.
        if raw.ends_with([',', ')']) {
            self.end_number();
        }
        if ends {
            self.sentence();
        }
    }

    fn trimmed(&mut self, text: &str) {
        let unsigned = text.trim_start_matches(['-', '+', '$', '€', '£', '#', '~', '=']);
        if unsigned.starts_with(|one: char| one.is_ascii_digit()) {
            return self.digits(text, unsigned);
        }
        let lower = text.to_lowercase();
        if ["e.g", "i.e", "z.b", "d.h", "p.ex", "p.ej", "etc", "vs"].contains(&lower.as_str()) {
            return;
        }
        if is_identifier(text) {
            // Paths and addresses are case-sensitive.
            let exact = text.contains(['/', '\\', ':']);
            return self.name(if exact { text.to_owned() } else { lower });
        }
        let parts = text
            .split(|one: char| !one.is_alphanumeric() && !matches!(one, '\'' | '’' | '%' | '°' | '$' | '€' | '£' | '\u{300}'..='\u{36f}'));
        let mut first = true;
        let hyphenated = text.contains('-');
        for part in parts {
            if hyphenated && part.eq_ignore_ascii_case("free") && !first {
                self.push(Kind::Sense, "without".to_owned());
            }
            if !part.is_empty() {
                self.word(part);
                self.start = false;
            }
            first = false;
        }
    }

    /// A text that begins with a digit: a number, perhaps with a currency or a unit.
    fn digits(&mut self, whole: &str, unsigned: &str) {
        self.end_number();
        let end =
            unsigned.find(|one: char| one.is_alphabetic() || matches!(one, '%' | '°' | '$' | '€' | '£' | '+')).unwrap_or(unsigned.len());
        let (number, unit) = unsigned.split_at(end);
        let sign = whole.strip_suffix(unsigned).unwrap_or_default();
        let minus = if sign.contains('-') { "-" } else { "" };
        let currency = sign.chars().find(|one| matches!(one, '$' | '€' | '£' | '#')).map(String::from);
        let unit = unit.to_lowercase();
        let unit = currency.or_else(|| (!unit.is_empty()).then(|| words::unit(&unit).map_or(unit, str::to_owned)));
        let number = format!("{minus}{}", numbers::plain(number));
        match unit {
            Some(unit) => self.push(Kind::Number, format!("{number} {unit}")),
            None => {
                self.number = Some(number);
                self.numeral = false;
            }
        }
    }

    fn word(&mut self, word: &str) {
        let word = word.replace('’', "'");
        let word = word.trim_matches('\'');
        let lower = word.to_lowercase();
        // n't, and other parts attached to a word.
        if let Some(verb) = lower.strip_suffix("n't") {
            self.after(verb);
            self.end_number();
            return self.sense("not", &lower);
        }
        if lower != "aujourd'hui"
            && let Some((left, right)) = word.split_once('\'')
        {
            let elided = left.chars().count() <= 2 || left.eq_ignore_ascii_case("jusqu") || left.eq_ignore_ascii_case("lorsqu");
            let english = ["s", "re", "ve", "ll", "d", "m"].contains(&right.to_lowercase().as_str());
            if elided && !english {
                if matches!(left.to_lowercase().as_str(), "n" | "d") {
                    self.recent.push(left.to_lowercase());
                }
                return self.word(right);
            }
            return self.plain(left, &left.to_lowercase());
        }
        self.plain(word, &lower);
    }

    fn plain(&mut self, word: &str, lower: &str) {
        if word.is_empty() {
            return;
        }
        if self.numeric(lower) {
            return self.after(lower);
        }
        if self.number.is_some() {
            if let Some(unit) = words::unit(lower) {
                let number = self.number.take().unwrap_or_default();
                self.push(Kind::Number, format!("{number} {unit}"));
                return self.after(lower);
            }
            // Several numbers differ by what they count.
            let counted = self.found.iter().any(|(kind, _)| *kind == Kind::Number);
            self.end_number();
            if counted && !words::is_filler(lower) {
                self.found.push((Kind::Bound, format!("#>{lower}")));
            }
        }
        let capital = word.starts_with(char::is_uppercase);
        let dated = self.recent.last().is_some_and(|one| words::is_before_time(one));
        if let Some(time) = words::time(lower, (capital && !self.start) || dated) {
            self.push(Kind::Time, time.to_owned());
        } else if words::is_roman(lower) {
            self.name(lower.to_owned());
        } else if let Some(sense) = self.switched(lower) {
            return self.sense(sense, lower);
        } else if !word.chars().all(is_latin) {
            self.name(lower.to_owned());
        } else if word.chars().skip(1).any(char::is_uppercase) {
            if lower != "ok" {
                self.name(lower.to_owned());
            }
        } else if capital
            && !(self.start && words::is_starter(lower))
            && !["I", "Sie", "Ihr", "Ihre", "Ihnen", "Ihren", "Ihrem"].contains(&word)
        {
            self.name(lower.to_owned());
        }
        self.bind(lower);
        self.after(lower);
    }

    /// The meaning of a word, alone or with the words before it: turn … on, ne … plus, ne … que.
    fn switched(&self, lower: &str) -> Option<&'static str> {
        let before = |words: &[&str]| self.recent.iter().rev().take(5).any(|one| words.contains(&one.as_str()));
        match lower {
            "on" if before(&["turn", "turned", "turning", "switch", "switched", "switching"]) => Some("enable"),
            "plus" if before(&["ne", "n"]) => Some("never"),
            "plus" => Some("more"),
            "que" if before(&["ne", "n"]) => Some("only"),
            _ => words::sense(lower),
        }
    }

    fn sense(&mut self, sense: &str, lower: &str) {
        self.push(Kind::Sense, sense.to_owned());
        let contrast =
            self.recent.last().is_some_and(|one| ["but", "and", "aber", "und", "mais", "et", "pero", "y"].contains(&one.as_str()));
        let any = (contrast && sense == "not") || words::binds(lower).is_some();
        if any || words::is_about_next(sense) {
            self.bound = Some((sense.to_owned(), any, 3));
        }
        self.after(lower);
    }

    /// Records a word with the word that it belongs to.
    fn bind(&mut self, lower: &str) {
        if words::is_filler(lower) && !(self.target && words::is_towards(lower)) {
            return;
        }
        match &mut self.bound {
            Some((word, true, _)) => {
                self.found.push((Kind::Bound, format!("{word}>{lower}")));
                self.bound = None;
            }
            Some((_, _, 0)) => self.bound = None,
            Some((_, _, left)) => *left -= 1,
            None => {}
        }
        if self.target && words::is_towards(lower) {
            self.bound = Some(("to".to_owned(), true, 3));
            self.target = false;
        } else if let Some(word) = words::binds(lower) {
            self.bound = Some((word.to_owned(), true, 3));
        }
        self.target |= words::has_target(lower);
    }

    /// Handles a number in words.
    fn numeric(&mut self, lower: &str) -> bool {
        let Some(value) = numbers::word(lower) else {
            if numbers::is_compound(lower) {
                self.end_number();
                self.number = Some(lower.to_owned());
                self.numeral = false;
                return true;
            }
            // "two hundred and five"
            return lower == "and" && self.numeral && self.number.is_some();
        };
        let before = self.number.as_deref();
        let joined = match before.and_then(|number| number.parse::<u64>().ok()) {
            Some(number) if self.numeral || value >= 100 => numbers::join(number, value).map(|joined| joined.to_string()),
            // 1.5 million
            None if value >= 1000 && before.is_some() => before.map(|number| format!("{number}*{value}")),
            _ => None,
        };
        if joined.is_none() {
            self.end_number();
        }
        self.number = Some(joined.unwrap_or_else(|| value.to_string()));
        self.numeral = true;
        true
    }

    fn after(&mut self, lower: &str) {
        self.recent.push(lower.to_owned());
        if self.recent.len() > 16 {
            self.recent.drain(..8);
        }
    }
}
