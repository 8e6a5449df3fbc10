//! A message of the caller: the request that it is, or why it is none.

use bytes::Bytes;
use spillway_plugins::api::Api;
use spillway_plugins::request::BodyError;
use spillway_plugins::responses_socket::{self as messages, Create, CreateError, Memory};

use super::turn::{self, Asked};
use super::{Socket, handshake};
use crate::proxy::identify::may_use_model;
use crate::proxy::offload::of_length;
use crate::proxy::refusal::Refusal;
use crate::proxy::request_id;
use crate::request::BufferShare;

/// A message for which there is no room.
const NO_ROOM: Refusal = Refusal::Overloaded { what: "messages on sockets" };

/// What a message asks for.
struct Read {
    /// Whether it goes on from what the connection knows.
    goes_on: bool,
    warm_up: bool,
    model: Option<String>,
    previous: Option<String>,
    body: Vec<u8>,
    /// What is to be remembered, if the connection is to.
    remembered: Option<Memory>,
}

fn read(text: &str, memory: Option<&Memory>) -> Result<Read, CreateError> {
    let create = Create::read(text)?;
    let previous = create.previous();
    // By its name it is the last one, or one that a backend knows.
    let before = memory.filter(|memory| previous.as_deref().is_some_and(|id| memory.is_of(id)));
    let warm_up = create.is_warm_up();
    Ok(Read {
        goes_on: before.is_some(),
        warm_up,
        model: create.model(),
        body: if warm_up { Vec::new() } else { create.body(before) },
        remembered: (warm_up || !create.is_stored()).then(|| create.remembered(before)),
        previous,
    })
}

/// Bytes that give their room back when nothing needs them any more.
struct InRoom(Vec<u8>, #[expect(dead_code, reason = "it is held for as long as the bytes are")] BufferShare);

impl AsRef<[u8]> for InRoom {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Socket<'_> {
    fn share(&self) -> BufferShare {
        BufferShare::of(&self.gateway.buffered, self.facts.buffered())
    }

    /// Begins what a message asks for.
    pub(super) async fn begin(&mut self, text: String) {
        let (memory, memory_room) = self.memory.take().unzip();
        // Neither body nor memory will be longer.
        let most = text.len() + memory.as_ref().map_or(0, Memory::len) + 128;
        let (mut body_room, mut kept) = (self.share(), self.share());
        if !(body_room.covers(most) && kept.covers(most)) {
            self.memory = memory.zip(memory_room);
            return self.refuse(&NO_ROOM, None);
        }
        let work = move || {
            let read = read(&text, memory.as_ref());
            (read, memory)
        };
        let (read, memory) = match of_length(&self.gateway.turns, self.facts.owner(), most, work).await {
            Ok((read, memory)) => (read, memory),
            Err(refusal) => return self.refuse(&refusal, None),
        };
        let read = match read {
            Ok(read) => read,
            Err(error) => {
                self.memory = memory.zip(memory_room);
                return self.no_request(&error);
            }
        };
        if !read.goes_on {
            self.memory = memory.zip(memory_room);
        }
        kept.set(read.remembered.as_ref().map_or(0, Memory::len));
        if read.warm_up {
            return self.warm_up(read.model, read.remembered.zip(Some(kept)));
        }
        self.number += 1;
        body_room.set(read.body.len());
        let mut headers = self.headers.clone();
        handshake::number(&mut headers, &self.facts.id, self.number);
        let asked = Asked {
            path: self.path.clone(),
            headers,
            body: Bytes::from_owner(InRoom(read.body, body_room)),
            certificate: self.certificate.clone(),
            remembered: read.remembered.zip(Some(kept)),
            previous: read.previous,
            owner: self.facts.owner(),
            held: self.facts.buffered(),
        };
        self.running = Some(turn::begin(self.gateway, asked));
    }

    /// Keeps what is given for the next one; no backend is asked.
    fn warm_up(&mut self, model: Option<String>, remembered: Option<(Memory, BufferShare)>) {
        let Some(model) = model else { return self.refuse(&BodyError::NoModel.into(), Some("model")) };
        let runtime = &self.facts.runtime;
        let allowed = match runtime.model(&model) {
            None => Err(Refusal::UnknownModel { model: model.chars().take(128).collect() }),
            Some(known) => may_use_model(self.facts, Api::Responses, &model, &runtime.pools[known.pool].config),
        };
        if let Err(refusal) = allowed {
            return self.refuse(&refusal, Some("model"));
        }
        let id = format!("resp_{}", request_id::new());
        for message in messages::warm_up(&id, &model, self.gateway.clock.wall().timestamp()) {
            self.wire.say(message);
        }
        self.memory = remembered.map(|(memory, room)| (memory.named(id), room));
    }
}

#[cfg(test)]
mod tests;
