//! While one process takes over from another both serve requests, and one of them decides what the limits admit: the old one
//! until it has told the new one all that it has admitted, then the new one. The other one asks for each request. So nothing is
//! admitted twice, and nothing has to be kept for the other.

use std::sync::Arc;
use std::time::Duration;

use spillway_plugins::limits::{Demand, Path, Permit, Scope, admit_granted};
use spillway_plugins::prices::Money;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{info, warn};

use super::question::{Answer, AskedScope, Decision, Question};
use super::silence::Silence;
use super::successor::Successor;
use super::{Decider, Denied, Limits};

/// Longest wait for the other process. Then this one decides alone, until the other one answers again.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

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
    pub fn hand_over(&self) -> (Arc<Successor>, mpsc::Receiver<Question>) {
        let (successor, questions) = Successor::new();
        self.set_decider(Decider::Successor(Arc::clone(&successor)));
        (successor, questions)
    }

    /// The other process has ended: this one decides again, by what it knows. Returns whether the other one decided until now.
    pub fn take_back(&self) -> bool {
        self.decide_after(|decider| matches!(decider, Decider::Successor(_)))
    }

    /// A request that sees a scope's mark finds the decider set; so the mark is set later, and removed earlier.
    fn set_decider(&self, decider: Decider) {
        let scopes = self.scopes.lock();
        self.decider.send_replace(decider);
        scopes.all().for_each(|scope| scope.decide_elsewhere(true));
    }

    fn decide_after(&self, is_it: impl FnOnce(&Decider) -> bool) -> bool {
        let scopes = self.scopes.lock();
        let is_it = is_it(&self.decider.borrow());
        if is_it {
            scopes.all().for_each(|scope| scope.decide_elsewhere(false));
            self.decider.send_replace(Decider::This);
        }
        is_it
    }

    /// The new process hasn't answered a request: this process decides, by what both have told each other.
    pub(super) fn go_on_without(&self, successor: &Successor) {
        if self.take_back() {
            *successor.silence.lock() = Silence::Silent;
            warn!("the new process doesn't answer what limits admit: they go on without it until it does");
        }
    }

    /// Called before each report of what counts here. If the new process doesn't answer, returns a question after which it is known
    /// whether it does again, to be sent to it. Once it does, it decides again: then nothing may be asked before what was admitted
    /// here meanwhile is reported.
    pub fn resume(&self, successor: &Arc<Successor>) -> Option<Question> {
        let mut silence = successor.silence.lock();
        if successor.is_closed() {
            return None;
        }
        match *silence {
            Silence::None | Silence::Asked { .. } => None,
            Silence::Silent => {
                let question = successor.question_of_nothing();
                *silence = Silence::Asked { number: question.number, since: self.now().monotonic };
                Some(question)
            }
            Silence::Over => {
                *silence = Silence::None;
                drop(silence);
                self.set_decider(Decider::Successor(Arc::clone(successor)));
                info!("the new process answers again: it decides what limits admit");
                None
            }
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
        {
            let known = self.scopes.lock();
            for AskedScope { name, via } in scopes {
                match known.named(&name) {
                    Some(scope) => path.push(Arc::clone(scope), via.and_then(|child| scope.guarantee_of(&child))),
                    None => unknown.push(name),
                }
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
