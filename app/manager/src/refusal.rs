//! A request that cannot be done, with the status and message its client gets, in the engine's own shape.

use crate::{
    engine::{CallError, Engine},
    state::StateError,
};
use http::{Response, StatusCode};
use osier_dockerapi::{
    convert::Need, filters::FiltersError, image, listing::ListError, path::PathError, query::QueryError,
    refusals::Refused, wishes::WishError,
};
use osier_engine::{Body, Error as ClientError, error_response};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// Refuses what this engine is too old for, rather than have it leave out what the user meant.
    pub(crate) fn too_old(engine: &Engine, need: &Need) -> Self {
        let (node, newest) = (engine.name(), engine.api().max);
        Self::bad_request(format!("{need}, but the engine of node {node} speaks {newest} at most"))
    }

    /// The refusal as this node's among those of others.
    pub(crate) fn of<'a>(&'a self, node: &'a str) -> Refused<'a> {
        Refused { node, status: self.status, message: &self.message }
    }

    pub(crate) fn response(&self) -> Response<Body> {
        error_response(self.status, &self.message)
    }
}

impl From<CallError> for Refusal {
    /// The engine's own answer where it gave one.
    fn from(error: CallError) -> Self {
        match error {
            CallError::Client(ClientError::Engine { status, message }) => Self { status, message },
            other => Self::new(StatusCode::BAD_GATEWAY, other.chain()),
        }
    }
}

impl From<StateError> for Refusal {
    fn from(error: StateError) -> Self {
        Self::internal(format!("keep it in the manager's state: {:#}", anyhow::Error::new(error)))
    }
}

impl From<WishError> for Refusal {
    fn from(error: WishError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<FiltersError> for Refusal {
    fn from(error: FiltersError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<PathError> for Refusal {
    fn from(error: PathError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<ListError> for Refusal {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Filters(e) => e.into(),
            ListError::NoSuchContainer(_) => Self::not_found(error.to_string()),
            ListError::Ambiguous { .. } | ListError::Limit(_) => Self::bad_request(error.to_string()),
        }
    }
}

impl From<image::ListError> for Refusal {
    fn from(error: image::ListError) -> Self {
        match error {
            image::ListError::Filters(e) => e.into(),
            image::ListError::NoSuchImage(_) => Self::not_found(error.to_string()),
            image::ListError::Pattern => Self::bad_request(error.to_string()),
        }
    }
}
