//! What the old process tells and asks the new one while it finishes its requests.

use std::io;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use super::{EVERY, Message, send};
use crate::clock::Tick;
use crate::gateway::Gateway;
use crate::limits::{ChangedScopes, Question, Successor};
use crate::sign_in::SentSignIn;

/// Cached answers that are sent between two reports of usage.
const ANSWERS: usize = 32;
/// If many scopes have changed, it takes a while to read what they use, and nothing that the new process has admitted is counted meanwhile. So
/// after that it waits for so many times as long until it does it again because of a single request.
const PAUSE: u32 = 3;

/// The new process decides what limits admit: how to ask it, and what it is asked.
pub(super) type Left = (Arc<Successor>, mpsc::Receiver<Question>);

/// What the new process knows already.
#[derive(Debug)]
pub(super) struct Sent {
    /// What it doesn't know yet.
    scopes: ChangedScopes,
    sign_in: SentSignIn,
}

impl Sent {
    /// Nothing.
    pub(super) fn new(gateway: &Gateway) -> Self {
        Sent { scopes: ChangedScopes::of(&gateway.limits), sign_in: SentSignIn::default() }
    }
}

/// Sends the usage of the scopes that have changed since the last time, and which of the requests that `successor` has admitted are
/// in it.
pub(super) async fn send_tallies(
    stream: &mut (impl AsyncWrite + Unpin),
    gateway: &Gateway,
    sent: &Sent,
    successor: Option<&Successor>,
) -> io::Result<()> {
    let now = gateway.limits.now();
    let read = || sent.scopes.take().into_iter().map(|scope| (scope.name.clone(), scope.tally(now))).collect::<Vec<_>>();
    let (scopes, counted) = successor.map_or_else(|| (read(), Vec::new()), |successor| successor.counted(read));
    if scopes.is_empty() && counted.is_empty() {
        return Ok(());
    }
    send(stream, &Message::Tallies { second: now.second(), scopes, counted }).await
}

/// Sends the sessions that have begun and ended since the last time: somebody may sign out here until the new process
/// accepts.
pub(super) async fn send_sessions(stream: &mut (impl AsyncWrite + Unpin), gateway: &Gateway, sent: &mut Sent) -> io::Result<()> {
    let sessions = gateway.sign_in.changes(&mut sent.sign_in, gateway.clock.now());
    if sessions.is_empty() { Ok(()) } else { send(stream, &Message::Sessions { sessions }).await }
}

/// What the new process is told and asked.
pub(super) struct Updates {
    sent: Sent,
    gateway: Gateway,
    successor: Option<Arc<Successor>>,
    questions: Option<mpsc::Receiver<Question>>,
    /// When what has been admitted and what has ended is told at once again.
    prompt_from: Tick,
    /// When all that is used is told. It goes on while there are questions.
    reports: Interval,
}

/// What there is to send.
enum Next {
    Question(Question),
    /// What it has admitted counts here, or a request has ended: it may refuse others because of that until it knows.
    Counted,
    /// Some time has passed.
    Again,
    /// Everything is settled.
    Last,
}

impl Updates {
    /// `left`: how the new process is asked, if it decides what limits admit.
    pub(super) fn new(sent: Sent, gateway: Gateway, left: Option<Left>) -> Self {
        let (successor, questions) = left.unzip();
        let mut reports = interval(EVERY);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Updates { sent, gateway, successor, questions, prompt_from: Tick::default(), reports }
    }

    /// Sends the cached answers and the usage of requests in flight, until `over`: then a last time. Meanwhile it asks.
    ///
    /// # Errors
    /// If the stream is broken.
    pub(super) async fn send(&mut self, stream: &mut (impl AsyncWrite + Unpin), mut over: watch::Receiver<bool>) -> io::Result<()> {
        send_sessions(stream, &self.gateway, &mut self.sent).await?;
        let cache = self.gateway.runtime.load().cache.clone();
        let entries: Vec<_> = cache.iter().flat_map(|cache| cache.entries(self.gateway.clock.wall_millis())).collect();
        for (number, (key, entry)) in entries.into_iter().enumerate() {
            // Requests and usage first.
            self.send_questions(stream).await?;
            if number % ANSWERS == 0 {
                self.send_tallies(stream).await?;
            }
            if *over.borrow() {
                break;
            }
            send(stream, &Message::Answer { key: STANDARD.encode(key.0), entry: STANDARD.encode(entry.to_bytes()) }).await?;
        }
        loop {
            let next = self.next(&mut over).await;
            match next {
                Next::Question(question) => send(stream, &Message::Admit { question }).await?,
                Next::Counted => {
                    let began = self.gateway.clock.now();
                    self.send_tallies(stream).await?;
                    let now = self.gateway.clock.now();
                    self.prompt_from = now + now.since(began) * PAUSE;
                }
                Next::Again | Next::Last => {
                    let limits = &self.gateway.limits;
                    let question = self.successor.as_ref().and_then(|successor| limits.resume(successor));
                    self.send_tallies(stream).await?;
                    if let Some(question) = question {
                        send(stream, &Message::Admit { question }).await?;
                    }
                    send_sessions(stream, &self.gateway, &mut self.sent).await?;
                    if matches!(next, Next::Last) {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn next(&mut self, over: &mut watch::Receiver<bool>) -> Next {
        let question = async {
            match &mut self.questions {
                Some(questions) => questions.recv().await,
                None => None,
            }
        };
        let pause = self.prompt_from.since(self.gateway.clock.now());
        let counted = async {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            let counted = async {
                match &self.successor {
                    Some(successor) => successor.has_counted().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = counted => {}
                () = self.sent.scopes.has_settled() => {}
            }
        };
        tokio::select! {
            Some(question) = question => Next::Question(question),
            () = counted => Next::Counted,
            _ = over.wait_for(|over| *over) => Next::Last,
            _ = self.reports.tick() => Next::Again,
        }
    }

    async fn send_questions(&mut self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        while let Some(question) = self.questions.as_mut().and_then(|questions| questions.try_recv().ok()) {
            send(stream, &Message::Admit { question }).await?;
        }
        Ok(())
    }

    async fn send_tallies(&mut self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        send_tallies(stream, &self.gateway, &self.sent, self.successor.as_deref()).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use spillway_plugins::limits::{Demand, Path, Rank, Rules};
    use tokio::io::DuplexStream;
    use tokio::time::timeout;

    use super::super::fixtures::{running, running_at_once};
    use super::super::receive;
    use super::*;
    use crate::limits::Answer;

    /// What the new process answers to a question.
    fn admitted(question: &serde_json::Value) -> Answer {
        let decision = serde_json::json!({ "admitted": { "unknown": [] } });
        serde_json::from_value(serde_json::json!({ "number": question["number"], "decision": decision })).unwrap()
    }

    #[tokio::test]
    async fn a_new_process_that_answers_again_decides_again_and_knows_what_was_admitted_without_it() {
        let running = running().await;
        let limits = Arc::clone(&running.gateway.limits);
        let rules = Rules { concurrent: Some(2), ..Rules::default() };
        let mut path = Path::new();
        path.push(limits.scope(Rank::Pool, "pool".to_owned(), &rules).unwrap(), None);
        tokio::time::pause();
        let (successor, questions) = limits.hand_over();
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
        let left = Some((Arc::clone(&successor), questions));
        let mut updates = Updates::new(Sent::new(&running.gateway), running.gateway.clone(), left);
        let (_over, is_over) = watch::channel(false);
        tokio::spawn(async move { updates.send(&mut ours, is_over).await });
        let ask = || {
            let (limits, path) = (Arc::clone(&limits), path.clone());
            tokio::spawn(async move { limits.admit(&path, Demand::default(), limits.now()).await })
        };
        let alone = ask().await.unwrap().unwrap();
        assert!(limits.decides(), "there was no answer");
        let (sender, mut messages) = mpsc::channel(1024);
        tokio::spawn(async move {
            while let Ok(Some(message)) = receive(&mut theirs).await
                && sender.send(message).await.is_ok()
            {}
        });
        let mut knows_of_it = false;
        let mut look = |message: Message| {
            let question = match message {
                Message::Admit { question } => serde_json::to_value(question).unwrap(),
                other => {
                    knows_of_it |= serde_json::to_value(other).unwrap().to_string().contains("\"in_flight\":1");
                    return None;
                }
            };
            let is_about_nothing = question["scopes"].as_array().unwrap().is_empty();
            if is_about_nothing {
                successor.answered(admitted(&question), limits.now());
            }
            Some(question).filter(|_| !is_about_nothing)
        };
        // It reads on, and answers questions about nothing only.
        while limits.decides() {
            if let Ok(message) = timeout(EVERY, messages.recv()).await {
                look(message.unwrap());
            }
        }
        let second = ask();
        let question = loop {
            if let Some(question) = look(messages.recv().await.unwrap()) {
                break question;
            }
        };
        assert!(knows_of_it && question["scopes"][0]["name"] == "pool", "{question}");
        successor.answered(admitted(&question), limits.now());
        assert!(second.await.unwrap().is_ok());
        drop(alone);
    }

    /// The new process decides: the end of its stream, and what ends the sending.
    fn handing_over(gateway: &Gateway) -> (DuplexStream, watch::Sender<bool>) {
        let left = gateway.limits.hand_over();
        let (mut ours, theirs) = tokio::io::duplex(1 << 16);
        let mut updates = Updates::new(Sent::new(gateway), gateway.clone(), Some(left));
        let (over, is_over) = watch::channel(false);
        tokio::spawn(async move { updates.send(&mut ours, is_over).await });
        (theirs, over)
    }

    #[tokio::test]
    async fn that_a_request_has_ended_is_told_at_once() {
        let running = running_at_once().await;
        let limits = Arc::clone(&running.gateway.limits);
        let rules = Rules { concurrent: Some(1), ..Rules::default() };
        let path: Path = limits.scope(Rank::Pool, "pool".to_owned(), &rules).into_iter().collect();
        let permit = limits.admit(&path, Demand::default(), limits.now()).await.unwrap();
        tokio::time::pause();
        let (mut theirs, _over) = handing_over(&running.gateway);
        let mut told = async || loop {
            if let Message::Tallies { scopes, .. } = receive(&mut theirs).await.unwrap().unwrap() {
                return serde_json::to_string(&scopes).unwrap().contains("\"in_flight\":1");
            }
        };
        assert!(told().await, "it is in flight");
        drop(permit);
        // Before the next report is due.
        assert_eq!(timeout(EVERY / 2, told()).await, Ok(false));
    }

    #[tokio::test]
    async fn that_a_request_has_ended_is_told_though_questions_come_all_the_time() {
        let running = running().await;
        let limits = Arc::clone(&running.gateway.limits);
        let rules = Rules { concurrent: Some(2), ..Rules::default() };
        let scope = limits.scope(Rank::Pool, "pool".to_owned(), &rules).unwrap();
        let path = move || {
            let mut path = Path::new();
            path.push(Arc::clone(&scope), None);
            path
        };
        let mut permit = Some(limits.admit(&path(), Demand::default(), limits.now()).await.unwrap());
        tokio::time::pause();
        let (mut theirs, _over) = handing_over(&running.gateway);
        tokio::spawn(async move {
            loop {
                let (path, limits) = (path(), Arc::clone(&limits));
                tokio::spawn(async move { limits.admit(&path, Demand::default(), limits.now()).await });
                sleep(Duration::from_millis(50)).await;
            }
        });
        let (mut questions, mut reports) = (0, 0);
        while reports < 2 {
            match receive(&mut theirs).await.unwrap().unwrap() {
                Message::Admit { .. } => questions += 1,
                Message::Tallies { .. } => {
                    reports += 1;
                    drop(permit.take());
                }
                _ => {}
            }
            // None is answered; before the first one has waited for too long, both reports are due.
            assert!(questions < 30, "{reports} of 2");
        }
    }
}
