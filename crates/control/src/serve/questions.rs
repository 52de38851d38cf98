// SPDX-License-Identifier: Apache-2.0
//! `Questions.Serve`: the line to one proxy. Carries questions and answers, and decides nothing.
//!
//! Like discovery it is a value that tonic polls: answers are read while the proxy has room for questions. Read [`crate::ask`] next.

use futures_util::stream::{BoxStream, StreamExt as _, unfold};
use maille_wire::v1;
use maille_wire::v1::questions_server::Questions;
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming};

use super::{Desk, Seat};
use crate::ask::Hanging;
use crate::hub::Phase;

/// The service.
#[derive(Clone, Debug)]
pub struct Asking {
    desk: Desk,
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
    /// A service on `desk`.
    pub fn new(desk: Desk) -> Self {
        Self { desk }
    }
}

#[tonic::async_trait]
impl Questions for Asking {
    type ServeStream = BoxStream<'static, Result<v1::Question, Status>>;

    async fn serve(
        &self,
        request: Request<Streaming<v1::Answer>>,
    ) -> Result<Response<Self::ServeStream>, Status> {
        let hub = &self.desk.hub;
        let caller = self.desk.callers.caller(&request)?;
        caller.admitted(hub).await?;
        let stream = Stream {
            _seat: Seat::take(hub, &caller.uid, |proxy| &mut proxy.questions)?,
            answers: request.into_inner(),
            line: hub.questions().hang(&caller.uid),
            phase: hub.phase(),
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
