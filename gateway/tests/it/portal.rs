//! People who sign in see the consumers that are theirs, and make keys for them; nothing else.

mod canary;
mod keys;
mod listener;
mod scene;
mod view;
