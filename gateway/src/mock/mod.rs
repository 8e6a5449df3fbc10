//! Answers without a model: the last resort of a pool, and the imitation of Azure OpenAI that
//! `spillway mock` serves.

pub mod answer;
