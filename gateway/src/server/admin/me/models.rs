//! What a key of a consumer may use.

use std::sync::Arc;

use crate::callers::{Caller, LiveConsumer, lacks_grant};
use crate::runtime::Runtime;

/// Whether keys of a consumer can be used at all: a consumer that needs roles or scopes needs a token, which has them.
pub(super) fn works_with_keys(consumer: &LiveConsumer) -> bool {
    lacks_grant(None, &consumer.rights.roles, &consumer.rights.scopes).is_none()
}

/// The models that a key of a consumer may use, in the order of the config.
pub(super) fn models(runtime: &Runtime, consumer: &Arc<LiveConsumer>) -> Vec<String> {
    if !works_with_keys(consumer) {
        return Vec::new();
    }
    let caller = Caller { consumer: Arc::clone(consumer), grants: None, key: None };
    let all = runtime.pools.iter().flat_map(|pool| pool.config.models.iter().map(|model| (model, &pool.config)));
    all.filter(|(model, pool)| caller.lacks_for_model(model, pool).is_none()).map(|(model, _)| model.clone()).collect()
}
