//! How a request ended: one name for logs, traces, the admin API and the decisions that depend on it.

use serde::{Serialize, Serializer};

/// How a request ended. Written by the stage that ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum End {
    /// It has not ended, or its end was not seen: the caller's connection was closed.
    #[default]
    CallerLeft,
    /// The caller received a whole answer.
    Complete,
    /// The gateway itself answered, with this error code.
    Refused(&'static str),
    /// The last resort answered.
    LastResort,
    /// The answer broke after its first byte, and the caller got an error event.
    Cut,
}

impl End {
    /// Name in logs, traces and the admin API.
    pub fn label(self) -> &'static str {
        match self {
            End::CallerLeft => "caller_left",
            End::Complete => "ok",
            End::Refused(_) => "refused",
            End::LastResort => "last_resort",
            End::Cut => "cut",
        }
    }

    /// The gateway's own error code, if the gateway itself answered.
    pub fn code(self) -> Option<&'static str> {
        if let End::Refused(code) = self { Some(code) } else { None }
    }

    /// Whether it ended during its last attempt. Otherwise the request had left every target that it tried.
    pub fn is_during_attempt(self) -> bool {
        match self {
            End::CallerLeft | End::Complete | End::Cut => true,
            End::Refused(_) | End::LastResort => false,
        }
    }
}

impl Serialize for End {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_its_word() {
        for (end, word, code, during) in [
            (End::CallerLeft, "caller_left", None, true),
            (End::Complete, "ok", None, true),
            (End::Refused("overloaded"), "refused", Some("overloaded"), false),
            (End::LastResort, "last_resort", None, false),
            (End::Cut, "cut", None, true),
        ] {
            assert_eq!((end.label(), end.code(), end.is_during_attempt()), (word, code, during));
            assert_eq!(serde_json::to_value(end).unwrap(), word);
        }
        assert_eq!(End::default(), End::CallerLeft, "a request whose end no stage wrote has lost its caller");
    }
}
