use super::*;
use crate::service_tier::ServiceTier;
use crate::tokens::Usage;

fn usd(amount: f64) -> Money {
    Money::from_usd(amount).unwrap()
}

/// In the default tier.
fn cost(price: &Price, usage: &Usage) -> Option<Money> {
    price.cost(usage, None).map(|cost| cost.money)
}

#[test]
fn the_shipped_table_knows_what_azure_offers() {
    let table = PriceTable::shipped().unwrap();
    let (price, traits) = table.find(&["azure/", "azure_ai/"], "gpt-4o").unwrap();
    assert_eq!(*traits, Traits { context: Some(128_000), reasons: false });
    assert!(table.find(&["azure/"], "gpt-5").unwrap().1.reasons);
    let usage = Usage { input: 1000, cached_input: 400, output: 100, ..Usage::default() };
    assert_eq!(cost(price, &usage), Some(usd(600.0 * 2.5e-6 + 400.0 * 1.25e-6 + 100.0 * 1e-5)));
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
    let cost = |usage: Usage| super::tests::cost(price, &usage).unwrap();
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
    assert!(price.at_most(&Usage { input: 10, output: 10, ..Usage::default() }, None) >= cost(dear));
    for other in [Usage { characters: 7, ..dear }, Usage { images: 3, ..dear }, Usage { milliseconds: 9001, ..dear }] {
        let Usage { characters, images, milliseconds, .. } = other;
        let alone = Usage { characters, images, milliseconds, ..Usage::default() };
        assert!(price.at_most(&other, None) >= cost(alone) && price.at_most(&other, None) >= cost(dear));
    }
}

#[test]
fn what_has_no_price_has_no_cost() {
    let table =
        PriceTable::parse(r#"{"m": {"input_cost_per_token": 1e-6}, "free": {"input_cost_per_token": 0, "output_cost_per_token": 0}}"#)
            .unwrap();
    let price = table.get("m").unwrap();
    assert_eq!(cost(price, &Usage { input: 1, output: 1, ..Usage::default() }), None);
    assert_eq!(cost(price, &Usage { input: 1, ..Usage::default() }), Some(usd(1e-6)));
    assert_eq!(cost(price, &Usage { images: 1, ..Usage::default() }), None);
    assert_eq!(cost(table.get("free").unwrap(), &Usage { input: 9, output: 9, ..Usage::default() }), Some(Money(0)));
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

#[test]
fn each_tier_has_its_prices() {
    let table = PriceTable::parse(
        r#"{"m": {"input_cost_per_token": 4e-6, "output_cost_per_token": 2e-5, "cache_read_input_token_cost": 4e-7,
        "input_cost_per_token_above_272k_tokens": 8e-6, "output_cost_per_token_above_272k_tokens": 3e-5,
        "input_cost_per_token_flex": 2e-6, "output_cost_per_token_flex": 1e-5, "cache_read_input_token_cost_flex": 2e-7,
        "input_cost_per_token_above_272k_tokens_flex": 4e-6,
        "input_cost_per_token_priority": 8e-6, "output_cost_per_token_priority": 4e-5,
        "input_cost_per_token_batches": 1e-6, "output_cost_per_token_batches": 1e-5, "input_cost_per_audio_token": 1e-4}}"#,
    )
    .unwrap();
    let price = table.get("m").unwrap();
    let cost = |usage: Usage, tier: ServiceTier| {
        let cost = price.cost(&usage, Some(tier)).unwrap();
        (cost.money, cost.exact)
    };
    let usage = Usage { input: 1000, cached_input: 400, output: 100, ..Usage::default() };
    assert_eq!(cost(usage, ServiceTier::Default), (usd(600.0 * 4e-6 + 400.0 * 4e-7 + 100.0 * 2e-5), true));
    assert_eq!(cost(usage, ServiceTier::Flex), (usd(600.0 * 2e-6 + 400.0 * 2e-7 + 100.0 * 1e-5), true));
    // There is no price for what its cache reads: the default tier's.
    assert_eq!(cost(usage, ServiceTier::Priority), (usd(600.0 * 8e-6 + 400.0 * 4e-7 + 100.0 * 4e-5), false));
    let uncached = Usage { input: 1000, output: 100, ..Usage::default() };
    assert_eq!(cost(uncached, ServiceTier::Priority), (usd(1000.0 * 8e-6 + 100.0 * 4e-5), true), "what isn't used needs no price");
    assert_eq!(cost(uncached, ServiceTier::Batch), (usd(1000.0 * 1e-6 + 100.0 * 1e-5), true));
    assert_eq!(cost(uncached, ServiceTier::Ultrafast), (usd(1000.0 * 4e-6 + 100.0 * 2e-5), false), "a tier without any price");
    let long = Usage { input: 300_000, output: 100, ..Usage::default() };
    assert_eq!(cost(long, ServiceTier::Default), (usd(300_000.0 * 8e-6 + 100.0 * 3e-5), true));
    // Flex has no price for the output of long prompts.
    assert_eq!(cost(long, ServiceTier::Flex), (usd(300_000.0 * 4e-6 + 100.0 * 3e-5), false));
    let audio = Usage { input: 10, input_audio: 10, ..Usage::default() };
    assert_eq!(cost(audio, ServiceTier::Flex), (usd(1e-3), false));
    assert_eq!(price.at_most(&uncached, Some(ServiceTier::Priority)), usd(1000.0 * 1e-4 + 100.0 * 4e-5));
}

#[test]
fn the_shipped_table_has_tiers() {
    let table = PriceTable::shipped().unwrap();
    let price = table.get("azure/gpt-5.6-sol").unwrap();
    let usage = Usage { input: 1_000_000, ..Usage::default() };
    let short = |tier: ServiceTier| price.cost(&Usage { input: 100_000, ..Usage::default() }, Some(tier)).unwrap();
    // The billed meters: 4, 2 and 8 dollars.
    for (tier, dollars) in [(ServiceTier::Default, 0.4), (ServiceTier::Flex, 0.2), (ServiceTier::Priority, 0.8)] {
        assert_eq!(short(tier), TierCost { money: usd(dollars), exact: true }, "{tier:?}");
    }
    assert!(price.cost(&usage, Some(ServiceTier::Flex)).unwrap().money > usd(2.0), "a long prompt costs more");
}

#[test]
fn what_is_written_to_a_cache_for_twelve_hours_has_its_price() {
    let table = PriceTable::shipped().unwrap();
    let price = table.get("gpt-5.6").unwrap();
    let of = |input: u64, long: u64| cost(price, &Usage { input, cache_write: input, cache_write_long: long, ..Usage::default() });
    assert_eq!((of(200_000, 0), of(200_000, 200_000)), (Some(usd(1.0)), Some(usd(2.0))));
    assert_eq!(of(300_000, 300_000), Some(usd(6.0)), "of a long prompt");
}

#[test]
fn the_fast_mode_multiplies_the_usual_prices() {
    let table = PriceTable::shipped().unwrap();
    let price = table.get("claude-opus-4-8").unwrap();
    let usage = Usage { input: 1000, cached_input: 400, output: 100, ..Usage::default() };
    let usual = price.cost(&usage, None).unwrap().money;
    assert_eq!(price.cost(&usage, Some(ServiceTier::Ultrafast)), Some(TierCost { money: usual + usual, exact: true }));
    // Its tier for throughput that is paid in advance is another one.
    assert_eq!(price.cost(&usage, Some(ServiceTier::Priority)), Some(TierCost { money: usual, exact: false }));
}
