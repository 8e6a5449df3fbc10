//! The status page: one document with all scripts and styles, built once.

use std::sync::LazyLock;

use super::answer::Answer;
use super::document::Document;

/// In this order.
const STYLES: [&str; 4] = [
    include_str!("page/css/base.css"),
    include_str!("page/css/flow.css"),
    include_str!("page/css/tables.css"),
    include_str!("page/css/rest.css"),
];

/// In this order: later ones use what earlier ones have.
const SCRIPTS: [&str; 20] = [
    include_str!("page/js/format.js"),
    include_str!("page/js/words.js"),
    include_str!("page/js/dom.js"),
    include_str!("page/js/rates.js"),
    include_str!("page/js/model.js"),
    include_str!("page/js/http.js"),
    include_str!("page/js/gateway.js"),
    include_str!("page/js/dialog.js"),
    include_str!("page/js/actions.js"),
    include_str!("page/js/header.js"),
    include_str!("page/js/flow-shape.js"),
    include_str!("page/js/flow.js"),
    include_str!("page/js/streaks.js"),
    include_str!("page/js/pools.js"),
    include_str!("page/js/consumers.js"),
    include_str!("page/js/limits.js"),
    include_str!("page/js/failovers.js"),
    include_str!("page/js/config.js"),
    include_str!("page/js/who.js"),
    include_str!("page/js/page.js"),
];

static PAGE: LazyLock<Document> = LazyLock::new(|| Document::new(include_str!("page/page.html"), &STYLES, &SCRIPTS));

pub(super) fn page() -> Answer {
    PAGE.answer()
}
