// SPDX-License-Identifier: Apache-2.0
//! `Questions.Serve`: the line to one proxy. Carries questions and answers, and decides nothing.
//!
//! Like discovery it is a value that tonic polls: answers are read while the proxy has room for questions. Read [`crate::ask`] next.

use std::sync::Arc;

use futures_util::stream::{BoxStream, StreamExt as _, unfold};
use maille_wire::v1;
use maille_wire::v1::questions_server::Questions;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use super::{Seat, admitted, workload_of};
use crate::ask::Hanging;
use crate::hub::{Hub, Phase};

/// The service.
#[derive(Clone, Debug)]
pub struct Asking {
    hub: Arc<Hub>,
}

/// One line.
struct Stream {
    answers: Streaming<v1::Answer>,
    line: Hanging,
    phase: watch::Receiver<Phase>,
    _seat: Seat,
}

// === impl Asking ===

impl Asking {
    /// A service on `hub`.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }
}

#[tonic::async_trait]
impl Questions for Asking {
    type ServeStream = BoxStream<'static, Result<v1::Question, Status>>;

    async fn serve(
        &self,
        request: Request<Streaming<v1::Answer>>,
    ) -> Result<Response<Self::ServeStream>, Status> {
        let uid = workload_of(request.metadata())?;
        admitted(&self.hub, &uid).await?;
        let stream = Stream {
            _seat: Seat::take(&self.hub, &uid, |proxy| &mut proxy.questions)?,
            answers: request.into_inner(),
            line: self.hub.questions().hang(&uid),
            phase: self.hub.phase(),
        };
        let questions = unfold(stream, |mut stream| async move {
            let question = stream.next().await?;
            Some((Ok(question), stream))
        });
        Ok(Response::new(questions.boxed()))
    }
}

// === impl Stream ===

impl Stream {
    /// The next question; `None` when either side has gone.
    async fn next(&mut self) -> Option<v1::Question> {
        loop {
            tokio::select! {
                answer = self.answers.message() => match answer {
                    Ok(Some(answer)) => self.line.answer(answer),
                    Ok(None) | Err(_) => return None,
                },
                question = self.line.next() => return question,
                _ = self.phase.wait_for(|phase| *phase == Phase::Draining) => return None,
            }
        }
    }
}
