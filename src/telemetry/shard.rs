//! The counters of one shard.

use super::clock;
use super::histogram::SharedHistogram;
use super::labels::{
    AnswerStatus, AskOutcome, CloseReason, ConnectRefusal, DropReason, HttpStatus, TlsFailure,
    WebSocketFailure,
};
use super::{Counter, Gauge, histogram};

/// Everything one shard counts. Written by its thread only, read by the control thread.
///
/// Aligned to two cache lines (x86 prefetches lines in pairs), so that no two shards' counters
/// share one.
#[derive(Debug)]
#[repr(align(128))]
pub struct ShardCounters {
    /// Connections the listener handed over.
    pub connections_accepted: Counter,
    /// Connections closed at once because the connection limit was reached.
    pub connections_refused: Counter,
    /// Connections open now.
    pub connections_open: Gauge,
    /// Connections ended, by reason; see [`Self::closed`].
    pub connections_closed: [Counter; CloseReason::COUNT],
    /// TLS handshakes that ended well: in full, resumed.
    pub tls_handshakes: [Counter; 2],
    /// TLS that failed, by reason; see [`Self::tls_failed`].
    pub tls_failures: [Counter; TlsFailure::COUNT],
    /// TLS handshakes under way now.
    pub tls_handshakes_under_way: Gauge,
    /// WebSockets that failed, by reason; see [`Self::websocket_failed`].
    pub websocket_failures: [Counter; WebSocketFailure::COUNT],
    /// Requests over HTTP, whole ones.
    pub http_requests: Counter,
    /// Bytes of their bodies.
    pub http_body_bytes_in: Counter,
    /// Responses over HTTP, by status; see [`Self::http_responded`].
    pub http_responses: [Counter; HttpStatus::COUNT],
    /// Requests over HTTP being answered now.
    pub http_exchanges: Gauge,
    /// CONNECTs refused, by reason; see [`Self::connect_refused`].
    pub connects_refused: [Counter; ConnectRefusal::COUNT],
    /// CONNECTs that found their session kept.
    pub sessions_resumed: Counter,
    /// Connections ended because their client id connected again.
    pub takeovers: Counter,

    /// PUBLISH packets from devices, by QoS.
    pub messages_in: [Counter; 3],
    /// Payload bytes of those, by QoS.
    pub payload_bytes_in: [Counter; 3],
    /// PUBLISH packets to devices, by QoS.
    pub messages_out: [Counter; 3],
    /// Payload bytes of those, by QoS.
    pub payload_bytes_out: [Counter; 3],
    /// Bytes read from device sockets.
    pub socket_bytes_in: Counter,
    /// Bytes written to device sockets.
    pub socket_bytes_out: Counter,
    /// Error answers that ringgate itself gave to devices, by status; see [`Self::answered`].
    pub answers_error: [Counter; AnswerStatus::COUNT],
    /// Messages dropped, by reason; see [`Self::dropped`].
    pub messages_dropped: [Counter; DropReason::COUNT],
    /// Wills accepted and ignored (ringgate is no broker).
    pub wills_ignored: Counter,
    /// Retain flags ignored.
    pub retained_ignored: Counter,

    /// Attempts to ask providers of credentials.
    pub asks_made: Counter,
    /// What came of them; see [`Self::asked`].
    pub asks_ended: [Counter; AskOutcome::COUNT],
    /// Questions under way now.
    pub asks_pending: Gauge,
    /// Bytes of messages that wait for endpoint tokens to be validated.
    pub parked_bytes: Gauge,
    /// Verdicts on endpoint tokens remembered.
    pub verdicts: Gauge,
    /// Clients connected that have proven who they are.
    pub clients_authenticated: Gauge,

    /// Batches written to NATS.
    pub batches: Counter,
    /// Messages in those batches.
    pub batch_messages: Counter,
    /// Bytes of those batches on the wire.
    pub batch_bytes: Counter,
    /// Messages the NATS server has confirmed.
    pub confirmations: Counter,
    /// Times the NATS link was set up again after it had been up.
    pub link_reconnects: Counter,
    /// QoS 0 messages that were written and not confirmed when the link broke.
    pub qos0_lost_on_reconnect: Counter,
    /// Messages nobody listens for ("no responders").
    pub no_responders: Counter,
    /// Errors the NATS server reported.
    pub nats_errors: Counter,
    /// Bytes kept until NATS confirms them.
    pub unconfirmed_bytes: Gauge,

    /// Endpoints with a route on this shard.
    pub endpoints: Gauge,
    /// Subscriptions of this shard's connected sessions.
    pub subscriptions: Gauge,
    /// Sessions connected here.
    pub sessions: Gauge,
    /// Sessions kept without a connection, of the whole process; only shard 0 says it.
    pub sessions_kept: Gauge,
    /// Reports to the control thread lost because it did not keep up.
    pub reports_lost: Counter,

    /// Panics caught while handling one connection.
    pub panics: Counter,
    /// Times the receive ring had no buffer left.
    pub read_buffers_exhausted: Counter,
    /// Times a connection's reading was stopped because the uplink was full.
    pub pauses: Counter,
    /// Nanoseconds the loop spent working, not waiting.
    pub loop_busy_ns: Counter,
    /// Times the loop woke up.
    pub loop_wakeups: Counter,
    /// [`clock::monotonic_ms`] at the last tick; see [`Self::tick`].
    pub last_tick_ms: Gauge,
    /// Share of the time between the last two ticks spent working, in millionths.
    pub loop_utilisation_ppm: Gauge,
    /// `loop_busy_ns` at the last tick.
    busy_ns_at_tick: Gauge,

    /// Time from PUBLISH read to batch confirmed, handed over by [`super::Latency`].
    pub confirm_latency: SharedHistogram,
    /// Messages per batch, handed over by [`super::BatchSizes`].
    pub batch_sizes: SharedHistogram,
}

impl ShardCounters {
    /// All zero; the last tick is now, so that a shard that never starts is seen to be stuck.
    #[must_use]
    pub fn new() -> Self {
        Self {
            connections_accepted: Counter::default(),
            connections_refused: Counter::default(),
            connections_open: Gauge::default(),
            connections_closed: Default::default(),
            tls_handshakes: Default::default(),
            tls_failures: Default::default(),
            tls_handshakes_under_way: Gauge::default(),
            websocket_failures: Default::default(),
            http_requests: Counter::default(),
            http_body_bytes_in: Counter::default(),
            http_responses: Default::default(),
            http_exchanges: Gauge::default(),
            connects_refused: Default::default(),
            sessions_resumed: Counter::default(),
            takeovers: Counter::default(),
            messages_in: Default::default(),
            payload_bytes_in: Default::default(),
            messages_out: Default::default(),
            payload_bytes_out: Default::default(),
            socket_bytes_in: Counter::default(),
            socket_bytes_out: Counter::default(),
            answers_error: Default::default(),
            messages_dropped: Default::default(),
            wills_ignored: Counter::default(),
            retained_ignored: Counter::default(),
            asks_made: Counter::default(),
            asks_ended: Default::default(),
            asks_pending: Gauge::default(),
            parked_bytes: Gauge::default(),
            verdicts: Gauge::default(),
            clients_authenticated: Gauge::default(),
            batches: Counter::default(),
            batch_messages: Counter::default(),
            batch_bytes: Counter::default(),
            confirmations: Counter::default(),
            link_reconnects: Counter::default(),
            qos0_lost_on_reconnect: Counter::default(),
            no_responders: Counter::default(),
            nats_errors: Counter::default(),
            unconfirmed_bytes: Gauge::default(),
            endpoints: Gauge::default(),
            subscriptions: Gauge::default(),
            sessions: Gauge::default(),
            sessions_kept: Gauge::default(),
            reports_lost: Counter::default(),
            panics: Counter::default(),
            read_buffers_exhausted: Counter::default(),
            pauses: Counter::default(),
            loop_busy_ns: Counter::default(),
            loop_wakeups: Counter::default(),
            last_tick_ms: Gauge::new(clock::monotonic_ms()),
            loop_utilisation_ppm: Gauge::default(),
            busy_ns_at_tick: Gauge::default(),
            confirm_latency: histogram::shared_latency(),
            batch_sizes: histogram::shared_batch_sizes(),
        }
    }

    /// Counts a connection that ended for `reason`.
    #[inline]
    pub fn closed(&self, reason: CloseReason) {
        self.connections_closed[reason.index()].add(1);
    }

    /// Counts a connection whose TLS failed for `reason`.
    #[inline]
    pub fn tls_failed(&self, reason: TlsFailure) {
        self.tls_failures[reason.index()].add(1);
    }

    /// Counts a connection whose WebSocket failed for `reason`.
    #[inline]
    pub fn websocket_failed(&self, reason: WebSocketFailure) {
        self.websocket_failures[reason.index()].add(1);
    }

    /// Counts a response over HTTP.
    #[inline]
    pub fn http_responded(&self, status: HttpStatus) {
        self.http_responses[status.index()].add(1);
    }

    /// Counts a CONNECT refused for `reason`.
    #[inline]
    pub fn connect_refused(&self, reason: ConnectRefusal) {
        self.connects_refused[reason.index()].add(1);
    }

    /// Counts what came of asking a provider.
    #[inline]
    pub fn asked(&self, outcome: AskOutcome) {
        self.asks_ended[outcome.index()].add(1);
    }

    /// Counts a message dropped for `reason`.
    #[inline]
    pub fn dropped(&self, reason: DropReason) {
        self.messages_dropped[reason.index()].add(1);
    }

    /// Counts an error answer given by ringgate itself.
    #[inline]
    pub fn answered(&self, status_code: i32) {
        self.answers_error[AnswerStatus::of(status_code).index()].add(1);
    }

    /// The shard's sign of life and its utilisation since the previous one. `now_ms` is
    /// [`clock::monotonic_ms`]. Two ticks in one millisecond count as one.
    pub fn tick(&self, now_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(self.last_tick_ms.get());
        if elapsed_ms == 0 {
            return;
        }
        let busy_ns = self.loop_busy_ns.get();
        let worked_ns = busy_ns.wrapping_sub(self.busy_ns_at_tick.get());
        // ns / ms is already millionths.
        self.loop_utilisation_ppm.set((worked_ns / elapsed_ms).min(1_000_000));
        self.busy_ns_at_tick.set(busy_ns);
        self.last_tick_ms.set(now_ms);
    }
}

impl Default for ShardCounters {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_shards_share_no_cache_line() {
        assert_eq!(align_of::<ShardCounters>(), 128);
        assert_eq!(size_of::<ShardCounters>() % 128, 0);
    }

    #[test]
    fn utilisation_is_the_busy_share_between_two_ticks() {
        let counters = ShardCounters::new();
        let start_ms = counters.last_tick_ms.get();
        counters.loop_busy_ns.add(250_000_000);
        counters.tick(start_ms + 1_000);
        assert_eq!(counters.loop_utilisation_ppm.get(), 250_000);

        counters.loop_busy_ns.add(900_000_000);
        counters.tick(start_ms + 1_000);
        assert_eq!(counters.loop_utilisation_ppm.get(), 250_000, "no time has passed");
        counters.tick(start_ms + 2_000);
        assert_eq!(counters.loop_utilisation_ppm.get(), 900_000);

        counters.loop_busy_ns.add(5_000_000_000);
        counters.tick(start_ms + 3_000);
        assert_eq!(counters.loop_utilisation_ppm.get(), 1_000_000, "never over one");
    }

    #[test]
    fn reasons_are_counted_apart() {
        let counters = ShardCounters::new();
        counters.closed(CloseReason::Takeover);
        counters.dropped(DropReason::NotKp1);
        counters.connect_refused(ConnectRefusal::BadClientId);
        counters.answered(413);
        assert_eq!(counters.connections_closed[CloseReason::Takeover.index()].get(), 1);
        assert_eq!(counters.connections_closed[CloseReason::Internal.index()].get(), 0);
        assert_eq!(counters.messages_dropped[DropReason::NotKp1.index()].get(), 1);
        assert_eq!(counters.connects_refused[ConnectRefusal::BadClientId.index()].get(), 1);
        assert_eq!(counters.answers_error[AnswerStatus::S413.index()].get(), 1);
    }
}
