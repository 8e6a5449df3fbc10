//! What many consumers and many deployments cost.

use std::path::Path;
use std::time::Duration;

use crate::backend::Backend;
use crate::callers::Case;
use crate::process::{Proxy, Variant};
use crate::{Awake, TURNS, Turns, median};

/// Prints what a 1 KiB request costs, compared with ten consumers and one deployment; the rows whose names contain `wanted`.
pub async fn costs(program: &Path, directory: &Path, backend: &Backend, turn: Duration, wanted: &str) {
    let _awake = Awake::start();
    let few = Variant { name: "few", consumers: 10, ..Variant::default() };
    let rows = [
        ("1,000 consumers", Variant { name: "thousand", consumers: 1_000, ..few }),
        ("10,000 consumers", Variant { name: "ten-thousand", consumers: 10_000, ..few }),
        ("100 deployments in a tier", Variant { name: "hundred", targets: 100, ..few }),
    ];
    for (name, variant) in rows.into_iter().filter(|(name, _)| name.contains(wanted)) {
        let mut many = Proxy::of(program, directory, backend, variant).await;
        let mut base = Proxy::of(program, directory, backend, Variant { name: &format!("few-{}", variant.name), ..few }).await;
        let mut turns = Turns::of_cases(&mut many, &mut base, [Case::Consumers(variant.consumers), Case::Consumers(few.consumers)]).await;
        let mut ratios = Vec::new();
        for _ in 0..TURNS {
            let (many, base) = turns.take(turn).await;
            ratios.push(many / base);
        }
        println!("{name:<32}{:>8.2} of ten consumers and one deployment", median(&mut ratios));
    }
}
