//! The names of owners of limits, for callers, operators and the ledger.

/// A quoted name. Quotation marks in it are escaped, so that no two scopes have the same name: names of consumers may
/// come from tokens.
fn quoted(name: &str) -> String {
    match name.contains(['\'', '\\']) {
        false => format!("'{name}'"),
        true => format!("'{}'", name.replace('\\', "\\\\").replace('\'', "\\'")),
    }
}

/// The name of a consumer's scope.
pub fn consumer_name(consumer: &str) -> String {
    format!("consumer {}", quoted(consumer))
}

/// The name of the scope of a consumer's usage of one model.
pub fn model_name(consumer: &str, model: &str) -> String {
    format!("consumer {} with model {}", quoted(consumer), quoted(model))
}

/// The name of a group's scope.
pub fn group_name(group: &str) -> String {
    format!("group {}", quoted(group))
}

/// The name of a pool's scope.
pub fn pool_name(pool: &str) -> String {
    format!("pool {}", quoted(pool))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_names_are_as_they_are_written() {
        assert_eq!(model_name("crm", "gpt-5"), "consumer 'crm' with model 'gpt-5'");
        assert_ne!(consumer_name("crm' with model 'gpt-5"), model_name("crm", "gpt-5"));
    }

    proptest! {
        #[test]
        fn different_scopes_are_called_different(one in "[a'\\\\ ]{0,6}( with model )?[a'\\\\ ]{0,4}", other in "[a'\\\\ ]{0,6}( with model )?[a'\\\\ ]{0,4}", model in "[a'\\\\ ]{0,4}") {
            prop_assert_eq!(consumer_name(&one) == consumer_name(&other), one == other);
            prop_assert_eq!(model_name(&one, &model) == model_name(&other, &model), one == other);
            prop_assert_ne!(consumer_name(&one), model_name(&other, &model));
        }
    }
}
