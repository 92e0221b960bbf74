//! `POST /osier/v1/explain`: a create request in, what would become of it out. Nothing is created, and no engine is asked.

use super::{Answer, Api, Call, create::Creation, images::is_pullable};
use crate::{explain::Report, refusal::Refusal};
use http::{Method, StatusCode};
use osier_dockerapi::placement;
use osier_engine::json_response;

impl Api {
    /// See the module.
    pub(super) async fn explain(&self, mut call: Call) -> Answer {
        if call.request.method() != Method::POST {
            return Err(Refusal::not_found("page not found"));
        }
        let body = call.object().await?;
        let creation = self.prepare(&call, body)?;
        let placing = &creation.placing;
        let mut report = Report::new(&self.cluster.policy, self.cluster.explain(placing)?);
        if let Some(Err(clash)) = placing.name.as_ref().map(|name| self.cluster.check_container_name(name)) {
            report.refuse(clash.message);
        }
        for network in placement::needs(&creation.body).networks {
            if self.nodes_with_network(&network).is_empty() {
                report
                    .warnings
                    .push(format!("no node has the network {network}, so the container could not be started"));
            }
        }
        self.explain_images(&creation, &mut report);
        Ok(json_response(StatusCode::OK, &report))
    }

    /// Tells how each node would come by the image.
    fn explain_images(&self, creation: &Creation, report: &mut Report) {
        let name = &creation.image;
        let holders = self.engines_with_image(name);
        let pullable = holders.iter().any(|e| is_pullable(name, e));
        report.add_images(|node| match holders.first() {
            _ if self.cluster.node(node).is_none_or(|e| !e.is_healthy()) => String::new(),
            _ if holders.iter().any(|e| e.name() == node) => "here".to_owned(),
            None => "missing".to_owned(),
            Some(_) if pullable => "pulled".to_owned(),
            Some(source) => format!("copied from {}", source.name()),
        });
        if holders.is_empty() {
            report.warnings.push(format!("no node has the image {name}, which 'docker run' would pull first"));
        }
    }
}
