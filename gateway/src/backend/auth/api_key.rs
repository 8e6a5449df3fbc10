//! `api-key`: a key from the config, shown or signed with as the backend's kind wants it.

use http::HeaderMap;

use super::authoriser::{AuthError, Authoriser};
use crate::clock::Tick;
use crate::http1::request_head::RequestHead;
use crate::provider::{Signer, Signing};

#[derive(Debug)]
pub(super) struct ApiKey {
    pub(super) signer: Box<dyn Signer>,
}

impl Authoriser for ApiKey {
    fn authorise(&self, _: &HeaderMap, request: &mut RequestHead, _: Tick, signing: &Signing<'_>) -> Result<(), AuthError> {
        self.signer.sign(request, signing).map_err(|_| AuthError::NoCredential)
    }
}
