//! The body of an answer from a kept connection, as it arrives. What comes packed
//! although nobody asked for that is unpacked within a limit.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::header::HeaderMap;

use super::OutboundError;
use super::connection::Exchange;
use super::exchange::coding;
use super::unpack::{Coding, Unpacker};

/// The body. Dropping it ends the exchange.
pub struct AnswerBody {
    exchange: Exchange,
    unpacker: Option<Unpacker>,
    /// What has come out of a body that is over, and not been taken.
    ended: Option<Piece>,
}

/// What comes next of a body.
#[derive(Debug)]
pub enum Piece {
    /// Bytes; never none.
    Some(Bytes),
    /// The body is whole.
    End,
    /// The connection was lost, or what came cannot be unpacked.
    Broken,
    /// More has come out of a packed body than its limit.
    TooLarge,
}

impl AnswerBody {
    /// The body of an answer. One that is packed may have so many bytes when it is
    /// unpacked.
    ///
    /// # Errors
    /// When it is packed in a way that is not known here.
    pub fn new(exchange: Exchange, headers: &HeaderMap, limit: usize) -> Result<Self, OutboundError> {
        let unpacker = match coding(headers)? {
            Coding::None => None,
            packed => Some(Unpacker::new(packed, limit)),
        };
        Ok(Self { exchange, unpacker, ended: None })
    }

    /// What comes next.
    pub async fn piece(&mut self) -> Piece {
        std::future::poll_fn(|context| self.poll_piece(context)).await
    }

    /// The same, for those who wait for something else besides.
    pub fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        loop {
            if let Some(ended) = self.ended.take() {
                return Poll::Ready(ended);
            }
            let data = match ready!(self.exchange.poll_frame(context)) {
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(_)) => return Poll::Ready(Piece::Broken),
                None => return Poll::Ready(self.end()),
            };
            let Some(unpacker) = &mut self.unpacker else {
                if data.is_empty() {
                    continue;
                }
                return Poll::Ready(Piece::Some(data));
            };
            match unpacker.take(&data).map(|()| unpacker.so_far_out()) {
                Ok(out) if out.is_empty() => {}
                Ok(out) => return Poll::Ready(Piece::Some(out.into())),
                Err(error) => return Poll::Ready(Piece::failed(&error)),
            }
        }
    }

    fn end(&mut self) -> Piece {
        match self.unpacker.take().map(Unpacker::finish) {
            None => Piece::End,
            Some(Ok(rest)) if rest.is_empty() => Piece::End,
            Some(Ok(rest)) => {
                self.ended = Some(Piece::End);
                Piece::Some(rest.into())
            }
            Some(Err(error)) => Piece::failed(&error),
        }
    }
}

impl Piece {
    fn failed(error: &OutboundError) -> Self {
        match error {
            OutboundError::ResponseTooLarge(_) => Self::TooLarge,
            _ => Self::Broken,
        }
    }
}
