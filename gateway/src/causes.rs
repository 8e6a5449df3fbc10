//! Why a request to a helper failed: an error with its causes, for the log.

use std::error::Error;

/// Longest text. What is longer loses its middle: the cause at the end tells most.
const LONGEST: (usize, usize) = (150, 250);

/// An error and its causes, on one line, without repetitions.
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = next.source();
    }
    without_middle(&text)
}

fn without_middle(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (front, back) = LONGEST;
    let chars = line.chars().count();
    if chars <= front + back {
        return line;
    }
    let at = |number| line.char_indices().nth(number).map_or(line.len(), |(at, _)| at);
    format!("{}…{}", &line[..at(front)], &line[at(chars - back)..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{said}")]
    struct Said {
        said: String,
        source: Option<Box<Said>>,
    }

    fn chain(texts: &[&str]) -> Said {
        let source = (texts.len() > 1).then(|| Box::new(chain(&texts[1..])));
        Said { said: texts[0].to_owned(), source }
    }

    #[test]
    fn each_cause_stands_once_and_the_last_one_always() {
        assert_eq!(
            causes(&chain(&["no token", "client error (Connect)", "tcp connect\n error"])),
            "no token: client error (Connect): tcp connect error"
        );
        assert_eq!(causes(&chain(&["failed: refused", "refused"])), "failed: refused");
        let text = causes(&chain(&[&"ä".repeat(1000), "Network is unreachable (os error 101)"]));
        assert!(text.starts_with("ää") && text.ends_with("ä: Network is unreachable (os error 101)"), "{text}");
        assert_eq!(text.chars().count(), 401);
    }
}
