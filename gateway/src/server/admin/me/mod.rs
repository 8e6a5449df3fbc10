//! What people who sign in see of themselves: the page, and its API.

mod left;
mod models;
mod overview;
mod page;
mod usage;

pub(super) use page::page;
pub(super) use usage::RecentUsage;

/// The path of the page.
pub(super) const PAGE: &str = "/me";

/// Whether a path belongs to the page's API.
pub(super) fn is_api(path: &str) -> bool {
    path == "/api/me" || path.starts_with("/api/me/")
}
