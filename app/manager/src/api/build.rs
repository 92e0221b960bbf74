//! Builds. Each is placed like a container; everything that belongs to it meets on its engine. The image is on that node
//! then, from where a create copies it to the node that needs it.
//!
//! A client of the classic builder sends one request. BuildKit takes several, each on a connection of its own, in any
//! order: the build, a session through which the builder asks the client for files, and perhaps an upload of the context.
//! Buildx speaks to the builder directly instead (`/grpc`) and opens sessions that name no build; its builds are all on
//! one engine, so that its cache is where it looks for it.

use super::{Answer, Api, Call};
use crate::{
    engine::Engine,
    meetings::Meeting,
    placing::{Placing, Reservation},
    refusal::Refusal,
    stream::with_end,
};
use http::header;
use osier_dockerapi::{build::BuildRequest, image::Reference, wishes};
use osier_scheduler::{Request, Tie};
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// How long requests wait for the one they belong to.
const MEET: Duration = Duration::from_secs(5);
/// How long a session waits for a build while somebody speaks to the builder directly, whose sessions have none.
const MEET_DIRECT: Duration = Duration::from_millis(300);
/// How long after the builder was spoken to directly that is likely.
const DIRECT: Duration = Duration::from_secs(30);

impl Api {
    /// The requests of builds.
    pub(super) async fn builder(&self, call: Call, segments: &[&str]) -> Answer {
        match segments {
            ["build"] => self.build(call).await,
            ["build", "cancel"] => self.build_cancel(call).await,
            ["session"] => self.build_session(call).await,
            _ => {
                let engine = self.cluster.any_healthy()?;
                self.meetings.spoke_directly();
                let before = self.before(&engine);
                let (held, ended) = oneshot::channel::<()>();
                let call = Call { hijacker: call.hijacker.holding(held), ..call };
                tokio::spawn(async move {
                    // Nothing is ever sent: it resolves when the connection lets go of its end.
                    let _ = ended.await;
                    before.settle(|_| true).await;
                });
                self.forward(&engine, call, segments).await
            }
        }
    }

    /// `POST /build`
    async fn build(&self, mut call: Call) -> Answer {
        let request = BuildRequest::read(&call.query);
        if let Some(id) = request.upload_for {
            let engine = self.meetings.wait(&Meeting::Build(id), MEET).await;
            let engine = engine.ok_or_else(|| Refusal::internal("timeout waiting for build to start"))?;
            return self.forward(&engine, call, &["build"]).await;
        }
        let (engine, reservation) = self.place_build(&request)?;
        let meetings = [request.id.map(Meeting::Build), request.session.map(Meeting::Session)];
        let images = request.tags.iter().cloned().map(Meeting::Image);
        meetings.into_iter().flatten().chain(images).for_each(|meeting| self.meetings.hold(meeting, &engine));
        if let Some(rest) = request.rest {
            call.raw_query = rest.to_string();
        }
        let before = self.before(&engine);
        let mut response = self.forward(&engine, call, &["build"]).await?;
        // With a length, a client would not wait for the end.
        response.headers_mut().remove(header::CONTENT_LENGTH);
        // Whoever runs the image once the build has ended is to find it.
        Ok(response.map(|body| {
            with_end(body, async move {
                drop(reservation);
                before.settle(|name| request.tags.iter().any(|tag| Reference::parse(tag).familiar() == name)).await;
            })
        }))
    }

    /// Where the build's session already is; else where an image of that name was last built, if that node has room; else
    /// where the scheduler puts it.
    fn place_build(&self, request: &BuildRequest) -> Result<(Arc<Engine>, Option<Reservation>), Refusal> {
        let session = request.session.clone().map(Meeting::Session);
        if let Some(engine) = session.and_then(|session| self.meetings.place(&session)) {
            return Ok((engine, None));
        }
        let wishes = wishes::of_entries(request.expressions.iter().map(String::as_str))?;
        let place = |ties: Vec<Tie>| {
            let (cpus, memory, wishes) = (request.cpus, request.memory, wishes.clone());
            let request = Request { cpus, memory, wishes, ties, ..Request::default() };
            self.cluster.place(&Placing { request, ..Placing::default() })
        };
        let before = request.tags.iter().find_map(|tag| self.meetings.place(&Meeting::Image(tag.clone())));
        let again = before.and_then(|engine| {
            let name = engine.name();
            place(vec![Tie { condition: format!("node=={name}"), nodes: [name.as_str().into()].into() }]).ok()
        });
        let reservation = again.map_or_else(|| place(Vec::new()), Ok)?;
        Ok((reservation.engine.clone(), Some(reservation)))
    }

    /// `POST /session`
    async fn build_session(&self, call: Call) -> Answer {
        let id = call.request.headers().get("x-docker-expose-session-uuid").and_then(|id| id.to_str().ok());
        let session = Meeting::Session(id.ok_or_else(|| Refusal::bad_request("no session ID provided"))?.to_owned());
        // Command lines with BuildKit in themselves name their sessions; buildx, which needs no build, no longer does.
        let patience = match call.request.headers().contains_key("x-docker-expose-session-name") {
            false => Duration::ZERO,
            true if self.meetings.direct_within(DIRECT) => MEET_DIRECT,
            true => MEET,
        };
        let engine = match self.meetings.wait(&session, patience).await {
            Some(engine) => engine,
            None => self.cluster.any_healthy()?,
        };
        self.meetings.hold(session, &engine);
        self.forward(&engine, call, &["session"]).await
    }

    /// `POST /build/cancel`
    async fn build_cancel(&self, call: Call) -> Answer {
        let id = call.query.get("id").filter(|id| !id.is_empty());
        let build = Meeting::Build(id.ok_or_else(|| Refusal::bad_request("build ID not provided"))?.to_owned());
        // One that is not running is nobody's, and cancelling it does nothing on any engine.
        let engine = self.meetings.place(&build).map_or_else(|| self.cluster.any_healthy(), Ok)?;
        self.forward(&engine, call, &["build", "cancel"]).await
    }
}
