//! Whose key it is, when the handler does not say.

use std::{fmt, sync::Arc};

use http::{HeaderName, request::Parts};

use super::rejection::{Code, Rejection};
use crate::key::Principal;

type Find = dyn Fn(&Parts) -> Option<String> + Send + Sync;

/// The runtime's rule.
#[derive(Clone)]
pub(crate) enum PrincipalSource {
    Shared,
    Header(HeaderName),
    Function(Arc<Find>),
}

impl PrincipalSource {
    #[expect(clippy::expect_used, reason = "documented: a wrong name is refused when the service starts")]
    pub(crate) fn header(name: &str) -> Self {
        Self::Header(HeaderName::try_from(name).expect("`principal_from_header` takes a header name"))
    }

    pub(crate) fn function(find: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        Self::Function(Arc::new(find))
    }

    /// Refused: the request names nobody, or somebody in a way that is not one text.
    pub(crate) fn find(&self, parts: &Parts) -> Result<Principal, Rejection> {
        let principal = match self {
            Self::Shared => Some(Principal::SHARED),
            Self::Header(name) => {
                let mut values = parts.headers.get_all(name).iter();
                let name = values.next().and_then(|value| value.to_str().ok()).filter(|name| !name.is_empty());
                if values.next().is_some() {
                    let detail = "The header that names the caller is given in more than one line; send one.";
                    return Err(Rejection::saying(Code::PrincipalMissing, detail));
                }
                name.map(Principal::new)
            }
            Self::Function(find) => find(parts).filter(|name| !name.is_empty()).map(Principal::new),
        };
        principal.ok_or(Code::PrincipalMissing.into())
    }
}

impl fmt::Debug for PrincipalSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared => f.write_str("Shared"),
            Self::Header(name) => write!(f, "Header({name})"),
            Self::Function(_) => f.write_str("Function(..)"),
        }
    }
}
