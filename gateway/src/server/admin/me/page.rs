//! The page of one's own. It holds nothing of anybody: its script asks the API, as the person who looks at it.

use std::sync::LazyLock;

use super::super::answer::Answer;
use super::super::document::Document;

/// In this order.
const STYLES: [&str; 4] = [
    include_str!("../page/css/base.css"),
    include_str!("../page/css/tables.css"),
    include_str!("../page/css/rest.css"),
    include_str!("../page/me/me.css"),
];

/// In this order: later ones use what earlier ones have.
const SCRIPTS: [&str; 16] = [
    include_str!("../page/js/format.js"),
    include_str!("../page/js/dom.js"),
    include_str!("../page/js/http.js"),
    include_str!("../page/js/dialog.js"),
    include_str!("../page/me/js/when.js"),
    include_str!("../page/me/js/api.js"),
    include_str!("../page/me/js/copy.js"),
    include_str!("../page/me/js/left.js"),
    include_str!("../page/me/js/chart.js"),
    include_str!("../page/me/js/usage.js"),
    include_str!("../page/me/js/keys.js"),
    include_str!("../page/me/js/make.js"),
    include_str!("../page/me/js/cards.js"),
    include_str!("../page/me/js/snippets.js"),
    include_str!("../page/me/js/me.js"),
    include_str!("../page/me/js/use.js"),
];

static PAGE: LazyLock<Document> = LazyLock::new(|| Document::new(include_str!("../page/me/me.html"), &STYLES, &SCRIPTS));

pub(super) fn page() -> Answer {
    PAGE.answer()
}
