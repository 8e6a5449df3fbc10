//! While one process takes over from another both serve requests, and one of them decides what the limits admit: the old one
//! until it has told the new one all that it has admitted, then the new one. The other one asks for each request. So nothing is
//! admitted twice, and nothing has to be kept for the other.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spillway_plugins::limits::{Class, Demand, Path, Permit, Scope, admit_granted};
use spillway_plugins::prices::Money;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::warn;

use super::successor::Successor;
use super::{Denied, Limits};

/// Longest wait for the other process. Then this one decides alone.
const PATIENCE: Duration = Duration::from_secs(2);

/// Which process decides.
#[derive(Debug, Clone)]
pub(super) enum Decider {
    /// This one.
    This,
    /// The old one, until it has told what it has admitted.
    Predecessor,
    /// The new one.
    Successor(Arc<Successor>),
}

/// A request of the old process, for the new one to decide on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    pub(super) number: u64,
    /// From the consumer upwards.
    scopes: Vec<AskedScope>,
    tokens: u64,
    /// In `Money`'s unit.
    cost: u64,
    class: Class,
}

/// A scope, in a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct AskedScope {
    name: String,
    /// To which scope below something of it is guaranteed that the request may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    via: Option<String>,
}

/// What the new process has decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub(super) number: u64,
    pub(super) decision: Decision,
}

/// Whether a request is admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Decision {
    /// It is, in all scopes but those that the new process doesn't have.
    Admitted { unknown: Vec<String> },
    /// It is not.
    Denied(Denied),
}

impl Question {
    pub(super) fn new(number: u64, path: &Path, demand: &Demand) -> Self {
        let asked = path.outwards().into_iter().map(|step| {
            let via = step.via.and_then(|at| step.scope.rules.guaranteed.get(at));
            AskedScope { name: step.scope.name.clone(), via: via.map(|guarantee| guarantee.child.clone()) }
        });
        Question { number, scopes: asked.collect(), tokens: demand.tokens, cost: demand.cost.0, class: demand.class }
    }
}

impl Limits {
    /// Whether this process decides what is admitted.
    pub fn decides(&self) -> bool {
        matches!(*self.decider.borrow(), Decider::This)
    }

    /// The old process decides until [`Limits::begin_to_decide`].
    pub fn await_predecessor(&self) {
        self.set_decider(Decider::Predecessor);
    }

    /// The old process has told all that it has admitted, or has ended.
    pub fn begin_to_decide(&self) {
        self.decide_after(|decider| matches!(decider, Decider::Predecessor));
    }

    /// Waits until the old process has told all that it has admitted. If that takes long, this one decides without.
    pub async fn wait_to_decide(&self) {
        let mut decider = self.decider.subscribe();
        let decides = decider.wait_for(|decider| !matches!(decider, Decider::Predecessor));
        if timeout(PATIENCE, decides).await.is_err() {
            warn!("the old process didn't tell in time what it has admitted: limits go on without that");
            self.begin_to_decide();
        }
    }

    /// From now on another process decides. Returns how to ask it, and the questions to send to it. What this one has admitted
    /// until now is in the scopes' tallies after this.
    pub fn hand_over(&self) -> (Arc<Successor>, mpsc::UnboundedReceiver<Question>) {
        let (successor, questions) = Successor::new();
        self.set_decider(Decider::Successor(Arc::clone(&successor)));
        (successor, questions)
    }

    /// The other process has ended: this one decides again, by what it knows.
    pub fn take_back(&self) {
        self.decide_after(|decider| matches!(decider, Decider::Successor(_)));
    }

    /// A request that sees a scope's mark finds the decider set; so the mark is set later, and removed earlier.
    fn set_decider(&self, decider: Decider) {
        let scopes = self.scopes.lock();
        self.decider.send_replace(decider);
        scopes.values().for_each(|held| held.scope.decide_elsewhere(true));
    }

    fn decide_after(&self, is_it: impl FnOnce(&Decider) -> bool) {
        let scopes = self.scopes.lock();
        if is_it(&self.decider.borrow()) {
            scopes.values().for_each(|held| held.scope.decide_elsewhere(false));
            self.decider.send_replace(Decider::This);
        }
    }

    /// `None`: the new process gives no answer.
    pub(super) async fn ask_successor(&self, successor: &Arc<Successor>, path: &Path, demand: Demand) -> Option<Result<Permit, Denied>> {
        let grant = match timeout(PATIENCE, successor.ask(path, &demand)).await.ok()?? {
            Ok(grant) => grant,
            Err(denied) => return Some(Err(Denied { demand, ..denied })),
        };
        let admitted = grant.count(|unknown| {
            let is_unknown = |scope: &Scope| unknown.contains(&scope.name);
            admit_granted(path, demand, self.now(), is_unknown, |scope, alert| self.alert(scope, alert))
        });
        Some(admitted.map_err(|refused| self.denied(refused, path, demand)))
    }

    /// Decides on a request of the old process. Its reservation is here until the old process tells that it counts there.
    pub async fn answer(&self, question: Question) -> Answer {
        let Question { number, scopes, tokens, cost, class } = question;
        let mut path = Path::new();
        let mut unknown = Vec::new();
        let known = self.all();
        for AskedScope { name, via } in scopes {
            match known.iter().find(|scope| scope.name == name) {
                Some(scope) => path.push(Arc::clone(scope), via.and_then(|child| scope.guarantee_of(&child))),
                None => unknown.push(name),
            }
        }
        let demand = Demand { tokens, cost: Money(cost), class };
        let decision = match self.admit(&path, demand, self.now()).await {
            Ok(permit) => {
                self.inherited.lock().hold(number, permit);
                Decision::Admitted { unknown }
            }
            Err(denied) => Decision::Denied(denied),
        };
        Answer { number, decision }
    }
}
