use super::*;

fn usd(amount: f64) -> Money {
    Money::from_usd(amount).unwrap()
}

#[test]
fn the_shipped_table_knows_what_azure_offers() {
    let table = PriceTable::shipped().unwrap();
    let (price, traits) = table.find(&["azure/", "azure_ai/"], "gpt-4o").unwrap();
    assert_eq!(*traits, Traits { context: Some(128_000), reasons: false });
    assert!(table.find(&["azure/"], "gpt-5").unwrap().1.reasons);
    let usage = Usage { input: 1000, cached_input: 400, output: 100, ..Usage::default() };
    assert_eq!(price.cost(&usage), Some(usd(600.0 * 2.5e-6 + 400.0 * 1.25e-6 + 100.0 * 1e-5)));
    for model in ["gpt-4.1", "gpt-4o-mini", "o3", "gpt-5", "gpt-5-mini", "text-embedding-3-small", "gpt-image-1", "whisper-1", "tts-1"] {
        assert!(table.find(&["azure/"], model).is_some(), "{model}");
    }
    assert!(table.find(&["azure_ai/"], "claude-sonnet-4-5").is_some());
    assert!(table.names().count() > 500);
}

#[test]
fn every_kind_has_its_price() {
    let text = r#"{"sample_spec": {"input_cost_per_token": "float"}, "m": {"mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-5,
        "cache_read_input_token_cost": 1e-7, "cache_creation_input_token_cost": 2e-6, "cache_creation_input_token_cost_above_1hr": 4e-6, "cache_read_input_audio_token_cost": 1e-5,
        "output_cost_per_reasoning_token": 2e-5, "input_cost_per_audio_token": 1e-4, "output_cost_per_audio_token": 1e-3,
        "input_cost_per_token_above_200k_tokens": 3e-6, "input_cost_per_second": 0.0001, "input_cost_per_character": 1.5e-5, "output_cost_per_image": 0.04}}"#;
    let table = PriceTable::parse(text).unwrap();
    let price = table.get("m").unwrap();
    let cost = |usage: Usage| price.cost(&usage).unwrap();
    assert_eq!(cost(Usage { input: 10, cache_write: 4, cache_write_long: 1, ..Usage::default() }), usd(6e-6 + 6e-6 + 4e-6));
    assert_eq!(cost(Usage { input: 10, input_audio: 9, ..Usage::default() }), usd(1e-6 + 9e-4));
    // As gpt-realtime bills: 150 of 900 audio tokens weren't cached.
    let realtime = Usage { input: 1000, input_audio: 900, cached_input: 800, cached_audio: 750, ..Usage::default() };
    assert_eq!(cost(realtime), usd(50e-6 + 150e-4 + 50e-7 + 750e-5));
    assert_eq!(cost(Usage { output: 10, reasoning: 3, output_audio: 2, ..Usage::default() }), usd(5e-5 + 6e-5 + 2e-3));
    assert_eq!(cost(Usage { input: 200_000, ..Usage::default() }), usd(0.2));
    assert_eq!(cost(Usage { input: 200_001, ..Usage::default() }), usd(200_001.0 * 3e-6), "the whole request");
    assert_eq!(cost(Usage { milliseconds: 1500, ..Usage::default() }), usd(0.00015));
    assert_eq!(cost(Usage { characters: 2, images: 1, ..Usage::default() }), usd(0.04003));
    assert_eq!(cost(Usage { input: 1, cached_input: 500, ..Usage::default() }), usd(1e-7), "a part is no more than its whole");
    let dear = Usage { input: 10, output: 10, output_audio: 10, input_audio: 10, ..Usage::default() };
    assert!(price.at_most(&Usage { input: 10, output: 10, ..Usage::default() }) >= cost(dear));
    for other in [Usage { characters: 7, ..dear }, Usage { images: 3, ..dear }, Usage { milliseconds: 9001, ..dear }] {
        let Usage { characters, images, milliseconds, .. } = other;
        let alone = Usage { characters, images, milliseconds, ..Usage::default() };
        assert!(price.at_most(&other) >= cost(alone) && price.at_most(&other) >= cost(dear));
    }
}

#[test]
fn what_has_no_price_has_no_cost() {
    let table =
        PriceTable::parse(r#"{"m": {"input_cost_per_token": 1e-6}, "free": {"input_cost_per_token": 0, "output_cost_per_token": 0}}"#)
            .unwrap();
    let price = table.get("m").unwrap();
    assert_eq!(price.cost(&Usage { input: 1, output: 1, ..Usage::default() }), None);
    assert_eq!(price.cost(&Usage { input: 1, ..Usage::default() }), Some(usd(1e-6)));
    assert_eq!(price.cost(&Usage { images: 1, ..Usage::default() }), None);
    assert_eq!(table.get("free").unwrap().cost(&Usage { input: 9, output: 9, ..Usage::default() }), Some(Money(0)));
    assert!(table.find(&["azure/"], "other").is_none());
}

#[test]
fn bad_tables_say_what_is_wrong() {
    let error = |text: &str| PriceTable::parse(text).unwrap_err().to_string();
    assert!(error("{").starts_with("is not valid JSON"));
    assert!(error("[]").contains("one object per model"));
    assert!(error(r#"{"m": 1}"#).contains("one object per model"));
    assert_eq!(error(r#"{"m": {"input_cost_per_token": "1"}}"#), "'m': 'input_cost_per_token' must be a number that is not negative");
    assert!(error(r#"{"m": {"output_cost_per_token": -1}}"#).contains("not negative"));
}
