//! The real scripts in a real Redis. Only their clock is another one.

use redis::{Connection, Script};
use spillway_testkit::process::RedisServer;

use super::super::agreement::Question;

pub(super) struct Real {
    server: RedisServer,
    connection: Connection,
    agree: Script,
    beat: Script,
}

/// The script reads its time from the last two arguments.
fn on_other_time(script: &str) -> Script {
    const TIME: &str = "redis.call('TIME')";
    assert_eq!(script.matches(TIME).count(), 1);
    Script::new(&script.replace(TIME, "{ ARGV[#ARGV - 1], ARGV[#ARGV] }"))
}

fn connect(server: &RedisServer) -> Connection {
    redis::Client::open(format!("redis://:CANARY-redis@127.0.0.1:{}", server.port)).unwrap().get_connection().unwrap()
}

impl Real {
    pub(super) fn start() -> Self {
        let server = RedisServer::start(None);
        let connection = connect(&server);
        let (agree, beat) = (on_other_time(include_str!("../agree.lua")), on_other_time(include_str!("../heartbeat.lua")));
        Real { server, connection, agree, beat }
    }

    /// Without data, and without a copy of it.
    pub(super) fn emptied(mut self) -> Self {
        self.flush();
        self.copy();
        self
    }

    fn invoke<T: redis::FromRedisValue>(&mut self, script: usize, keys: Vec<String>, arguments: Vec<String>, now: i64) -> T {
        let script = if script == 0 { &self.agree } else { &self.beat };
        let mut invocation = script.prepare_invoke();
        for key in keys {
            invocation.key(key);
        }
        for argument in arguments {
            invocation.arg(argument);
        }
        invocation.arg(now.div_euclid(1000)).arg(now.rem_euclid(1000) * 1000);
        invocation.invoke(&mut self.connection).unwrap()
    }

    pub(super) fn agree(&mut self, question: &Question, now: i64) -> Vec<u64> {
        let answer: Vec<String> = self.invoke(0, question.keys().map(ToOwned::to_owned).collect(), question.arguments(), now);
        answer.iter().map(|number| number.parse().unwrap()).collect()
    }

    pub(super) fn beat(&mut self, process: &str, answered: i64, now: i64) -> (u64, i64, i64) {
        let arguments = vec![process.to_owned(), answered.to_string()];
        self.invoke(1, vec!["born".to_owned(), "nodes".to_owned()], arguments, now)
    }

    pub(super) fn put(&mut self, place: &str, field: &str, amount: u64, now: i64) {
        redis::cmd("HSET").arg(place).arg(field).arg(format!("{amount} {now}")).exec(&mut self.connection).unwrap();
    }

    /// To the disk.
    pub(super) fn copy(&mut self) {
        redis::cmd("SAVE").exec(&mut self.connection).unwrap();
    }

    /// It is killed, and starts with what is on the disk.
    pub(super) fn fail_over(&mut self) {
        self.server.restart();
        self.connection = connect(&self.server);
    }

    pub(super) fn flush(&mut self) {
        redis::cmd("FLUSHALL").exec(&mut self.connection).unwrap();
    }
}
