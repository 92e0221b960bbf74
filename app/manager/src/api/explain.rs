//! `POST /osier/v1/explain`: a create request in, what would become of it out.

use super::{Answer, Api, Call};
use crate::{explain::Report, refusal::Refusal};
use http::{Method, StatusCode};
use osier_engine::json_response;

impl Api {
    /// See the module.
    pub(super) async fn explain(&self, mut call: Call) -> Answer {
        if call.request.method() != Method::POST {
            return Err(Refusal::not_found("page not found"));
        }
        let body = call.object().await?;
        let placing = self.prepare(&call, body)?.placing;
        if let Some(name) = &placing.name {
            drop(self.cluster.hold_container_name(name)?);
        }
        let outcome = self.cluster.explain(&placing)?;
        Ok(json_response(StatusCode::OK, &Report::new(&self.cluster.policy, outcome)))
    }
}
