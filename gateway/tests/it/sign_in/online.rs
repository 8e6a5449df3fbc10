//! `spillway check --online` asks the issuer with which persons sign in.

use std::process::Command;

use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::sign_in::SignInIssuer;

use super::browser::*;
use crate::support::*;

#[tokio::test]
async fn check_online_names_the_redirect_uri_and_an_issuer_that_is_gone() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, "{}")).await;
    let issuer = SignInIssuer::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("c.toml");
    std::fs::write(&file, text(&backend, &rules(&issuer))).unwrap();
    let check = async || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spillway"));
        IDENTITY_VARIABLES.into_iter().for_each(|name| drop(command.env_remove(name).get_args()));
        command.args(["check", "--online", "-c"]).arg(&file);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = check().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("server.sign_in: ok, keys of the issuer: 1; register the redirect URI https://gateway.example.com/sign-in/callback"),
        "{said}"
    );
    drop(issuer);
    let (code, said) = check().await;
    assert!(code == Some(1) && said.contains("server.sign_in: http://127.0.0.1:"), "{said}");
}
