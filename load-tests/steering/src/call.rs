//! The calls of a run: three shapes, bursts, and the seed that makes them the same for every controller.

use std::time::Duration;

use spillway::balance::provisioned::Elsewhere;
use spillway::balance::ptu::load::{Ask, Used};
use spillway::clock::Tick;
use spillway::mock::buckets::Arrival;
use spillway_plugins::limits::Class;

use crate::scenario::Scenario;
use crate::truth::Truth;

/// When runs begin.
pub const BEGIN: Tick = Tick(3_600_000_000_000);

/// Dollars per token of gpt-5.1, pay-as-you-go.
pub const ELSEWHERE: Elsewhere = Elsewhere { input: 1.25e-6, cached: 0.125e-6, output: 10.0e-6 };
/// So many seconds before the end the last batch call comes.
pub const LAST_BATCH: usize = 1800;
/// Consumers of each shape.
const CONSUMERS: u64 = 8;

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// When it comes.
    pub at: Tick,
    /// The gateway that it comes to.
    pub node: usize,
    /// Who sends it.
    pub consumer: u64,
    /// Its class.
    pub class: Class,
    /// When its answer must be complete.
    pub deadline: Option<Tick>,
    /// Tokens of its prompt.
    pub prompt: u64,
    /// Those that a PTU has cached.
    pub cached: u64,
    /// The share of those that a pay-as-you-go deployment has cached, too.
    pub cached_elsewhere: f64,
    /// Its completion cap.
    pub cap: Option<u64>,
    /// Tokens of its completion.
    pub output: u64,
    /// How much slower than usual its answer is.
    pub slow: f64,
}

/// A shape of calls: mean prompt, cached share, cap, mean completion.
struct Shape {
    prompt: f64,
    cached: f64,
    cached_varies: f64,
    cap: Option<u64>,
    output: f64,
}

const SHAPES: [Shape; 3] = [
    Shape { prompt: 1_500.0, cached: 0.3, cached_varies: 0.15, cap: None, output: 350.0 },
    Shape { prompt: 8_000.0, cached: 0.1, cached_varies: 0.05, cap: Some(800), output: 400.0 },
    Shape { prompt: 30_000.0, cached: 0.9, cached_varies: 0.05, cap: Some(1_500), output: 400.0 },
];

impl Call {
    /// What a gateway sees of it before it sends it.
    pub fn ask(&self) -> Ask {
        Ask { prompt: self.prompt, cap: self.cap, choices: 1 }
    }

    /// What the PTU sees of it.
    pub fn arrival(&self) -> Arrival {
        Arrival { prompt: self.prompt, cached: self.cached, cap: self.cap, choices: 1 }
    }

    /// Its usage at the PTU.
    pub fn used(&self) -> Used {
        Used { prompt: self.prompt, cached: self.cached, output: self.output }
    }

    /// What it costs at a standard deployment, in dollars.
    pub fn price(&self) -> f64 {
        let cached = self.cached as f64 * self.cached_elsewhere;
        (self.prompt as f64 - cached) * ELSEWHERE.input + cached * ELSEWHERE.cached + self.output as f64 * ELSEWHERE.output
    }

    /// Time to its first token: at the PTU, or elsewhere.
    pub fn first_token(&self, ptu: bool) -> Duration {
        let cached = self.cached as f64 * if ptu { 1.0 } else { self.cached_elsewhere };
        let usual = 0.25 + (self.prompt as f64 - cached) * 15e-6;
        Duration::from_secs_f64(usual * self.slow * if ptu { 1.0 } else { 1.2 })
    }

    /// Time from its first token to its last.
    pub fn rest(&self) -> Duration {
        Duration::from_secs_f64(self.output as f64 * 0.012)
    }
}

/// A log-normal number with this mean.
fn spread(mean: f64, sigma: f64, rng: &mut fastrand::Rng) -> f64 {
    mean * (normal(rng) * sigma - sigma * sigma / 2.0).exp()
}

fn normal(rng: &mut fastrand::Rng) -> f64 {
    (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
}

fn make(at: Tick, nodes: usize, shape: usize, class: Class, rng: &mut fastrand::Rng) -> Call {
    let form = &SHAPES[shape];
    let prompt = spread(form.prompt, 0.6, rng).clamp(50.0, 120_000.0);
    let cached = (form.cached + form.cached_varies * normal(rng)).clamp(0.0, 0.97);
    let cached = if prompt > 1024.0 && rng.f64() < 0.95 { prompt * cached } else { 0.0 };
    let output = spread(form.output, 0.7, rng).clamp(5.0, form.cap.unwrap_or(16_000) as f64);
    Call {
        at,
        node: rng.usize(0..nodes),
        consumer: 1 + shape as u64 * CONSUMERS + rng.u64(0..CONSUMERS),
        class,
        deadline: None,
        prompt: prompt as u64,
        cached: cached as u64,
        cached_elsewhere: 0.5,
        cap: form.cap,
        output: output as u64,
        slow: spread(1.0, 0.25, rng),
    }
}

/// How demand changes during a run: a slow swing, and bursts.
pub struct Demand {
    /// For each second, the demand as a share of its mean.
    seconds: Vec<f64>,
}

impl Demand {
    fn new(seconds: usize, rng: &mut fastrand::Rng) -> Self {
        let turn = rng.f64() * std::f64::consts::TAU;
        let mut list: Vec<f64> =
            (0..seconds).map(|second| 1.0 + 0.15 * (second as f64 / 1200.0 * std::f64::consts::TAU + turn).sin()).collect();
        let mut at = 0.0;
        loop {
            at += -90.0 * (1.0 - rng.f64()).ln();
            if at >= seconds as f64 {
                break;
            }
            let length = rng.usize(5..20);
            list.iter_mut().skip(at as usize).take(length).for_each(|one| *one *= 1.8);
        }
        let mean = list.iter().sum::<f64>() / seconds as f64;
        list.iter_mut().for_each(|one| *one /= mean);
        Demand { seconds: list }
    }

    /// The demand in a second, as a share of its mean.
    pub fn at(&self, second: usize) -> f64 {
        self.seconds.get(second).copied().unwrap_or(0.0)
    }
}

/// The calls of a run, in order, and the demand behind them.
pub fn calls(scenario: &Scenario, truth: &Truth, rng: &mut fastrand::Rng) -> (Vec<Call>, Demand) {
    let seconds = scenario.minutes * 60;
    let demand = Demand::new(seconds, rng);
    let mut list = Vec::new();
    let per_second = scenario.demand * truth.ptu.per_second() / mean_work(scenario, truth);
    poisson(
        seconds,
        rng,
        |second| per_second * demand.at(second),
        |at, rng| {
            let shape = rng.choice(scenario.shapes.iter().copied()).unwrap_or(0);
            list.push(make(at, scenario.nodes, shape, Class::Interactive, rng));
        },
    );
    if scenario.batch > 0.0 {
        let documents = Scenario { shapes: vec![0, 1], ..scenario.clone() };
        let per_second = scenario.batch * truth.ptu.per_second() / mean_work(&documents, truth);
        // Batches come in lumps, and the last ones early enough to be done in time.
        let lumps = |second: usize| if (second / 300).is_multiple_of(2) && second + LAST_BATCH < seconds { 2.0 * per_second } else { 0.0 };
        poisson(seconds, rng, lumps, |at, rng| {
            let mut call = make(at, scenario.nodes, rng.usize(0..2), Class::Batch, rng);
            call.deadline = Some(at + Duration::from_secs(rng.u64(900..2400)));
            list.push(call);
        });
    }
    list.iter_mut().for_each(|call| call.cached_elsewhere = scenario.cached_elsewhere);
    list.sort_by_key(|call| call.at);
    (list, demand)
}

fn poisson(seconds: usize, rng: &mut fastrand::Rng, rate: impl Fn(usize) -> f64, mut arrive: impl FnMut(Tick, &mut fastrand::Rng)) {
    for second in 0..seconds {
        let rate = rate(second);
        let mut at = 0.0;
        if rate <= 0.0 {
            continue;
        }
        loop {
            at += -(1.0 - rng.f64()).ln() / rate;
            if at >= 1.0 {
                break;
            }
            arrive(BEGIN + Duration::from_secs_f64(second as f64 + at), rng);
        }
    }
}

/// The mean work of a call, in input tokens.
fn mean_work(scenario: &Scenario, truth: &Truth) -> f64 {
    let mut rng = fastrand::Rng::with_seed(1);
    let works = (0..4000).map(|number| {
        let call = make(BEGIN, 1, scenario.shapes[number % scenario.shapes.len()], Class::Interactive, &mut rng);
        truth.ptu.used(&call.arrival(), call.output)
    });
    works.sum::<f64>() / 4000.0
}
