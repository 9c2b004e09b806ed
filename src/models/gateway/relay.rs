//! The stream of a provider, from its beginning to its end.
//!
//! [`begin`] waits for the first event with data: until then another provider can
//! still be asked. Then a task of its own, the [`Relay`], reads the provider,
//! writes events for the client into a pipe, and settles what they cost in
//! whatever way the stream ends:
//!
//! ```text
//!   opening ──first event──▶ open ──end, error, deadline──▶ settled
//!      │                      └──client gone──▶ counting the rest ──▶ settled
//!      └──error, nothing, too late──▶ failed: the next provider is asked
//! ```

use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::stream::StreamExt as _;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::attempt::{ANSWER_BYTES, Asked, Broken, collect, whole};
use super::call::Times;
use super::failure::{Bill, Failure};
use super::metrics::StreamGuard;
use super::pipe::{Flow, Inlet, pipe};
use super::{in_one_piece, words};
use crate::budgets::Reservation;
use crate::config::OnHangup;
use crate::http::sse::{HEARTBEAT, HEARTBEAT_EVERY};
use crate::models::price::Unit;
use crate::models::sse::{Event, Reader};
use crate::models::usage::{Said, StreamCounter};
use crate::models::{Endpoint, Reply, Streamed};
use crate::outbound::{AnswerBody, Piece};

/// What a provider has sent already is counted when its client is gone, whether
/// or not anybody has read it: for so long, and so many bytes.
const LAST_WORDS: Duration = Duration::from_millis(200);
const LAST_BYTES: usize = 8 << 20;
/// Bytes that are handed to the client together at most, but for what one piece adds.
const TOGETHER: usize = 16 << 10;

/// What clients of every endpoint read.
pub(super) const EVENTS: &str = "text/event-stream";

/// Waits for the first event with data, and gives the stream that begins with it.
pub(super) async fn begin(
    asked: Asked,
    reservation: Reservation,
    mut body: AnswerBody,
    limit: Duration,
    times: &mut Times,
) -> Result<Reply, Failure> {
    let waiting = Instant::now();
    let mut opening = Opening::new(&asked);
    // Comments show that the provider is at work, so they may go on for as long as a stream.
    let opened = timeout(asked.step.provider.settings.total, opening.read(&mut body, limit)).await;
    times.waited += waiting.elapsed();
    let name = &asked.step.provider.name;
    let failure = match opened {
        Ok(Opened::Stream) => {
            let reply = open(asked, reservation, body, opening, times);
            // What has arrived with the first event leaves with it.
            tokio::task::yield_now().await;
            return Ok(reply);
        }
        Ok(Opened::Json(begun)) => return one_piece(asked, reservation, body, begun, times).await,
        Ok(Opened::Error(data)) => {
            let bill = opening.events.counter.usage().map_or(Bill::Nothing, Bill::Used);
            Failure::in_success(&asked.step.provider, &data, bill)
        }
        Ok(Opened::Nonsense) => Failure::nonsense(name, "sent a stream of something that is not JSON", Bill::All),
        Ok(Opened::Nothing) => Failure::nonsense(name, "sent a stream with nothing in it", Bill::All),
        Ok(Opened::Broken(broken)) => broken.failure(&asked),
        Ok(Opened::Late) | Err(_) => Failure::timeout(name, "the first event of its answer", limit),
    };
    Err(asked.failed(reservation, failure))
}

/// A stream that has begun, and the task that goes on with it.
fn open(asked: Asked, reservation: Reservation, body: AnswerBody, opening: Opening, times: &Times) -> Reply {
    let receipt = asked.receipt(times, None);
    let (inlet, outlet) = pipe();
    inlet.push(&opening.out);
    let now = Instant::now();
    let relay = Relay {
        deadline: now + asked.step.provider.settings.total,
        _guard: asked.gateway.metrics.stream(),
        account: Account { asked, reservation: Some(reservation) },
        reader: opening.reader,
        events: opening.events,
        body,
        inlet,
        last: now,
    };
    tokio::spawn(relay.run());
    Reply::Stream(Streamed { content_type: EVENTS.into(), pieces: outlet.boxed(), receipt })
}

/// One JSON body in place of a stream.
async fn one_piece(
    asked: Asked,
    reservation: Reservation,
    mut body: AnswerBody,
    begun: BytesMut,
    times: &mut Times,
) -> Result<Reply, Failure> {
    let waiting = Instant::now();
    let limit = asked.step.provider.settings.total;
    let body = timeout(limit, collect(&mut body, begun, ANSWER_BYTES)).await.unwrap_or(Err(Broken::Late));
    times.waited += waiting.elapsed();
    let body = match body {
        Ok(body) => body,
        Err(broken) => return Err(asked.failed(reservation, broken.failure(&asked))),
    };
    let answer = whole(&asked, reservation, 200, "application/json".into(), body, times)?;
    // Who makes responses of them reads whole ones, too.
    if asked.request.endpoint != Endpoint::ChatCompletions {
        return Ok(Reply::Whole(answer));
    }
    let events = in_one_piece::events(&answer.body, !asked.request.hides_usage);
    let pieces = futures_util::stream::iter([events]).boxed();
    Ok(Reply::Stream(Streamed { content_type: EVENTS.into(), pieces, receipt: answer.receipt }))
}

/// What there is at the beginning of a stream.
enum Opened {
    /// An event with data.
    Stream,
    /// JSON in place of events, as far as it has come.
    Json(BytesMut),
    /// An event that says that something went wrong: its data.
    Error(Vec<u8>),
    /// Data that nobody can read.
    Nonsense,
    /// The end.
    Nothing,
    /// Nothing in time.
    Late,
    Broken(Broken),
}

/// A stream of which no event with data has come.
struct Opening {
    reader: Reader,
    events: Events,
    /// What the client is sent first.
    out: Vec<u8>,
}

impl Opening {
    fn new(asked: &Asked) -> Self {
        Self { reader: Reader::default(), events: Events::new(asked), out: Vec::new() }
    }

    /// Reads up to the first event with data. Nothing may take longer to arrive than `limit`.
    async fn read(&mut self, body: &mut AnswerBody, limit: Duration) -> Opened {
        // What has come before it is known whether it is a stream at all.
        let mut begun = BytesMut::new();
        let mut is_stream = false;
        loop {
            let (data, is_over) = match timeout(limit, body.piece()).await {
                Ok(Piece::Some(data)) => (data, false),
                Ok(Piece::End) => (bytes::Bytes::new(), true),
                Ok(Piece::Broken) => return Opened::Broken(Broken::Lost),
                Ok(Piece::TooLarge) => return Opened::Broken(Broken::TooLarge),
                Err(_) => return Opened::Late,
            };
            if !is_stream {
                begun.extend_from_slice(&data);
                match looks_like_json(&begun) {
                    None if !is_over => continue,
                    Some(true) => return Opened::Json(begun),
                    _ => is_stream = true,
                }
            }
            let data = if begun.is_empty() { data } else { std::mem::take(&mut begun).freeze() };
            if let Some(opened) = self.feed(&data, is_over) {
                return opened;
            }
            // Comments that came before anything else are of no use any more.
            self.out.clear();
            if is_over {
                return Opened::Nothing;
            }
        }
    }

    /// Takes bytes; what is known when an event with data was among them.
    fn feed(&mut self, data: &[u8], is_over: bool) -> Option<Opened> {
        let Self { reader, events, out } = self;
        let mut opened = None;
        let mut each = |event: &Event<'_>| {
            let said = events.take(event, out);
            opened.get_or_insert(match said {
                Said::Nothing => return,
                // A stream that is over before it says anything.
                Said::Done => Opened::Nothing,
                Said::Error => Opened::Error(event.data.as_deref().unwrap_or_default().to_vec()),
                Said::Nonsense => Opened::Nonsense,
                Said::Something | Said::Usage => Opened::Stream,
            });
        };
        let fed = reader.feed(data, &mut each);
        if is_over {
            reader.finish(&mut each);
        }
        match fed {
            Ok(()) => opened,
            Err(_) => Some(opened.unwrap_or(Opened::Broken(Broken::TooLarge))),
        }
    }
}

/// Whether a body is JSON; `None` while nothing of it has come.
fn looks_like_json(begun: &[u8]) -> Option<bool> {
    let begun = begun.strip_prefix(b"\xef\xbb\xbf").unwrap_or(begun);
    begun.iter().find(|byte| !byte.is_ascii_whitespace()).map(|first| matches!(first, b'{' | b'['))
}

/// What events say, and what of them the client gets.
struct Events {
    counter: StreamCounter,
    /// Whether the client has not asked for the usage.
    hides_usage: bool,
    /// Whether an event said that something went wrong.
    erred: bool,
    done: bool,
}

impl Events {
    fn new(asked: &Asked) -> Self {
        let counter = StreamCounter::new(asked.request.endpoint, &asked.price);
        Self { counter, hides_usage: asked.request.hides_usage, erred: false, done: false }
    }

    /// Takes an event, and writes what the client gets of it.
    fn take(&mut self, event: &Event<'_>, out: &mut Vec<u8>) -> Said {
        if self.done {
            return Said::Nothing;
        }
        let Some(data) = &event.data else {
            if event.is_comment() {
                event.write(out);
            }
            return Said::Nothing;
        };
        let said = self.counter.event(event.name, data);
        self.erred |= said == Said::Error;
        self.done |= said == Said::Done;
        let is_kept_back = said == Said::Nothing || said == Said::Usage && self.hides_usage;
        if !is_kept_back {
            event.write(out);
        }
        said
    }
}

impl Events {
    /// The same for an event without an end: half of one is of no use to the client.
    fn take_last(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        let before = out.len();
        if self.take(event, out) == Said::Nonsense {
            out.truncate(before);
        }
    }
}

/// What has to be settled. Dropped without that, which the end of the process
/// does, it is settled by what has come.
struct Account {
    asked: Asked,
    reservation: Option<Reservation>,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Whole,
    Broken,
    Late,
    HungUp,
}

impl Account {
    fn settle(&mut self, end: End, counter: &StreamCounter) {
        let (asked, Some(reservation)) = (&self.asked, self.reservation.take()) else { return };
        let (outcome, is_fault) = match end {
            End::Whole | End::HungUp => ("ok", false),
            End::Broken => ("lost", true),
            // The provider was there; who read slowly may have been the client.
            End::Late => ("timeout", false),
        };
        asked.record(outcome, is_fault);
        // What is paid by time is not told in tokens.
        let by_token = asked.price.unit() == Unit::Token;
        let counted = counter.usage().filter(|_| by_token);
        if counted.is_none() && asked.hides_output() {
            // Nobody can say what it was; dropped, it is settled in full.
            return drop(reservation);
        }
        reservation.settle(asked.spent(counted, || counter.output()));
    }
}

/// A stream under way.
struct Relay {
    body: AnswerBody,
    reader: Reader,
    events: Events,
    account: Account,
    inlet: Inlet,
    deadline: Instant,
    /// When the client was last sent anything.
    last: Instant,
    _guard: StreamGuard,
}

/// What happens next.
enum Next {
    Piece(Piece),
    /// The client is gone.
    Gone,
    /// It is time to look at the clock.
    Tick,
}

impl Relay {
    async fn run(mut self) {
        let end = self.relay().await;
        let end = match end {
            End::HungUp => End::HungUp,
            _ if self.events.erred => End::Broken,
            _ if self.events.counter.is_complete() => End::Whole,
            other => other,
        };
        match end {
            End::HungUp => self.count_rest().await,
            End::Whole => self.inlet.push(self.missing_end()),
            End::Broken if self.events.erred => {}
            End::Broken | End::Late => {
                self.events.counter.cut(&self.reader);
                let asked = &self.account.asked;
                tracing::warn!(provider = %asked.step.provider.name, model = %asked.step.model, ?end, "a stream was cut");
                self.inlet.push(&words::cut_off(asked.request.endpoint, &asked.step.provider.name, end));
            }
        }
        self.account.settle(end, &self.events.counter);
        self.inlet.close();
        if end == End::Whole {
            // The connection can be used again once the last bytes have been read.
            let _ = timeout(LAST_WORDS, self.exhaust()).await;
        }
    }

    /// Passes events on until the stream ends; how it does.
    async fn relay(&mut self) -> End {
        let mut out = Vec::new();
        let mut timer = pin!(sleep_until(self.next_tick()));
        while !self.events.done {
            let next = std::future::poll_fn(|context| {
                let next = self.poll_next(timer.as_mut(), context);
                // What has arrived together leaves together.
                if next.is_pending() {
                    self.send(&mut out);
                }
                next
            });
            let piece = match next.await {
                Next::Piece(piece) => piece,
                Next::Gone => return End::HungUp,
                Next::Tick => {
                    if Instant::now() >= self.deadline {
                        return End::Late;
                    }
                    if self.last.elapsed() >= HEARTBEAT_EVERY {
                        self.inlet.push(HEARTBEAT);
                        self.last = Instant::now();
                    }
                    timer.as_mut().reset(self.next_tick());
                    continue;
                }
            };
            let fed = match piece {
                Piece::Some(data) => self.reader.feed(&data, |event| {
                    self.events.take(event, &mut out);
                }),
                Piece::End => {
                    self.reader.finish(|event| self.events.take_last(event, &mut out));
                    self.send(&mut out);
                    return End::Broken;
                }
                Piece::Broken | Piece::TooLarge => {
                    self.send(&mut out);
                    return End::Broken;
                }
            };
            if fed.is_err() || self.events.done || out.len() >= TOGETHER {
                self.send(&mut out);
            }
            if fed.is_err() {
                return End::Broken;
            }
        }
        End::Whole
    }

    /// Hands what there is to the client.
    fn send(&mut self, out: &mut Vec<u8>) {
        if !out.is_empty() {
            self.inlet.push(out);
            out.clear();
            self.last = Instant::now();
        }
    }

    fn poll_next(&mut self, timer: Pin<&mut Sleep>, context: &mut Context<'_>) -> Poll<Next> {
        match self.inlet.flow(context) {
            Flow::Gone => return Poll::Ready(Next::Gone),
            Flow::Open => {
                if let Poll::Ready(piece) = self.body.poll_piece(context) {
                    return Poll::Ready(Next::Piece(piece));
                }
            }
            // Nothing is read before the client wants it.
            Flow::Full => {}
        }
        timer.poll(context).map(|()| Next::Tick)
    }

    fn next_tick(&self) -> Instant {
        self.deadline.min(self.last + HEARTBEAT_EVERY)
    }

    /// What says that a chat is over, where the provider has left it out.
    fn missing_end(&self) -> &'static [u8] {
        let is_chat = self.account.asked.request.endpoint == Endpoint::ChatCompletions;
        if is_chat && !self.events.done { b"data: [DONE]\n\n" } else { b"" }
    }

    /// Counts what nobody reads any more: what the provider has sent is billed. Of
    /// calls that are drained that is all that still comes.
    async fn count_rest(&mut self) {
        let settings = &self.account.asked.step.provider.settings;
        let drains = settings.on_hangup == OnHangup::Drain;
        let (limit, most) = if drains { (settings.total, usize::MAX) } else { (LAST_WORDS, LAST_BYTES) };
        let (mut bytes, mut out) = (0, Vec::new());
        let rest = async {
            while bytes < most
                && !self.events.done
                && let Piece::Some(data) = self.body.piece().await
            {
                bytes += data.len();
                out.clear();
                let fed = self.reader.feed(&data, |event| {
                    self.events.take(event, &mut out);
                });
                if fed.is_err() {
                    break;
                }
            }
        };
        let _ = timeout(limit, rest).await;
        self.events.counter.cut(&self.reader);
    }

    async fn exhaust(&mut self) {
        while let Piece::Some(_) = self.body.piece().await {}
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.account.settle(End::HungUp, &self.events.counter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_from_events_by_its_first_byte() {
        for (begun, expected) in [
            ("", None),
            (" \r\n", None),
            ("\u{feff}", None),
            ("{", Some(true)),
            ("\u{feff} [", Some(true)),
            ("data: {", Some(false)),
            (": {", Some(false)),
            ("<html>", Some(false)),
        ] {
            assert_eq!(looks_like_json(begun.as_bytes()), expected, "{begun:?}");
        }
    }
}
