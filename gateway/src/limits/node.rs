//! This node's name among those that share limits. It must survive a restart: a node's usage of a quota is stored under
//! its name.

use std::io::Write as _;
use std::path::Path;

/// A node's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeName(pub String);

/// The file in `state_dir`.
const FILE: &str = "node";

impl NodeName {
    /// The configured name, the one that was generated before, or a new one.
    ///
    /// # Errors
    /// If a new one can't be stored.
    pub fn find(given: Option<&str>, state_dir: Option<&Path>) -> std::io::Result<NodeName> {
        if let Some(name) = given {
            return Ok(NodeName(name.to_owned()));
        }
        let new = format!("{:016x}", fastrand::u64(..));
        let Some(folder) = state_dir else { return Ok(NodeName(new)) };
        let path = folder.join(FILE);
        match std::fs::read_to_string(&path) {
            Ok(name) if !name.trim().is_empty() => Ok(NodeName(name.trim().to_owned())),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => {
                std::fs::create_dir_all(folder)?;
                crate::private::open(&path)?.write_all(new.as_bytes())?;
                Ok(NodeName(new))
            }
        }
    }
}
