// SPDX-License-Identifier: Apache-2.0
//! The DATA frame that ends what is to be sent: bytes of the same stream lengthen it. Many small pieces would otherwise cost the peer, and
//! everybody behind them on the connection, a frame each.
//!
//! Must never change bytes that are not at the end, or were taken away to be sent. `send.rs` is who asks.

use super::frame::{self, Kind};

/// Where in `out` the frame lies that may be lengthened, if there is one: of whole DATA, without a flag.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Latest(Option<Place>);

#[derive(Clone, Copy, Debug)]
struct Place {
    stream: u32,
    start: usize,
    end: usize,
}

impl Latest {
    /// Appends all of `bytes`, in as few frames as may be; `last` says that the stream ends with them, and counts where there are any.
    pub(super) fn append(&mut self, stream: u32, bytes: &[u8], last: bool, out: &mut Vec<u8>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let place = self.place(stream, out);
            let room = frame::DATA_SIZE - (place.end - place.start - frame::HEADER);
            let (now, later) = rest.split_at(rest.len().min(room));
            out.extend_from_slice(now);
            frame::patch_length(out, place.start);
            let ends = last && later.is_empty();
            if ends {
                frame::patch_flags(out, place.start, frame::END_STREAM);
            }
            let end = out.len();
            let full = end - place.start - frame::HEADER == frame::DATA_SIZE;
            self.0 = (!ends && !full).then_some(Place { end, ..place });
            rest = later;
        }
    }

    /// The frame at the end of `out`, or a new one without bytes.
    fn place(&mut self, stream: u32, out: &mut Vec<u8>) -> Place {
        let fits = |place: &Place| place.stream == stream && place.end == out.len();
        match self.0.take().filter(fits) {
            Some(place) => place,
            None => {
                let start = out.len();
                frame::header(out, 0, Kind::DATA, 0, stream);
                let end = out.len();
                Place { stream, start, end }
            }
        }
    }

    /// `out` was taken, to be sent or to be forgotten.
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }
}
