//! The bounded sets of label values. Each is a plain enum whose variants index an array of
//! counters.

/// Declares an enum of label values with `ALL`, `COUNT`, `as_str` and `index`.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$variant_doc:meta])* $variant:ident => $text:literal,)+
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every value, in the order of `index`.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// How many values there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The value of the Prometheus label, also used in logs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// Place in an array of `COUNT` counters.
            #[must_use]
            pub const fn index(self) -> usize {
                self as usize
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

labels! {
    /// Why a connection ended.
    CloseReason {
        /// The client sent DISCONNECT.
        ClientDisconnect => "client_disconnect",
        /// The peer closed its side without DISCONNECT.
        PeerClosed => "peer_closed",
        /// The socket failed: reset, timed out in the kernel, host unreachable.
        PeerReset => "peer_reset",
        /// Bytes that are no MQTT packet (v5 0x81).
        MalformedPacket => "malformed_packet",
        /// The client speaks TLS where plain MQTT is spoken.
        TlsOnPlainPort => "tls_on_plain_port",
        /// A packet that is well formed but not allowed here (v5 0x82).
        ProtocolError => "protocol_error",
        /// A packet over the maximum packet size (v5 0x95).
        PacketTooLarge => "packet_too_large",
        /// No CONNECT within the connect timeout.
        ConnectTimeout => "connect_timeout",
        /// No end of the TLS handshake within its timeout.
        TlsHandshakeTimeout => "tls_handshake_timeout",
        /// TLS failed: see the reasons of `ringgate_tls_failures`.
        TlsFailed => "tls_failed",
        /// No good PROXY header came first from a proxy.
        ProxyHeader => "proxy_header",
        /// A PROXY header from an address that is not to send any.
        UnlistedProxy => "unlisted_proxy",
        /// The WebSocket failed: see the reasons of `ringgate_websocket_failures`.
        WebSocketFailed => "websocket_failed",
        /// A request over HTTP that could not be taken: see `ringgate_http_responses`.
        HttpRefused => "http_refused",
        /// A request over HTTP did not come in full in time (408).
        RequestTimeout => "request_timeout",
        /// A request over HTTP was not answered in time (504).
        AnswerTimeout => "answer_timeout",
        /// No request over HTTP for long.
        IdleTimeout => "idle_timeout",
        /// The last request over HTTP that was to come was answered.
        Completed => "completed",
        /// Nothing heard for one and a half times the keep alive (MQTT-3.1.2-24, v5 0x8D).
        KeepAliveTimeout => "keep_alive_timeout",
        /// The client id connected again (MQTT-3.1.4-2, v5 0x8E).
        Takeover => "takeover",
        /// More QoS 1 and 2 messages in flight than announced (v5 0x93).
        ReceiveMaximumExceeded => "receive_maximum_exceeded",
        /// A client id that is not allowed (CONNACK 2, v5 0x85).
        BadClientId => "bad_client_id",
        /// A protocol level that is not spoken here (CONNACK 1, v5 0x84).
        UnsupportedVersion => "unsupported_version",
        /// A CONNECT that does not name MQTT.
        WrongProtocolName => "wrong_protocol_name",
        /// The client reads more slowly than it is sent to, and its buffer is full (v5 0x97).
        QuotaExceeded => "quota_exceeded",
        /// The server stops (v5 0x8B).
        Shutdown => "shutdown",
        /// Handling this connection panicked.
        Panic => "panic",
        /// The client may not connect or may not do this (CONNACK 5, v5 0x87).
        NotAuthorized => "not_authorized",
        /// What the client proved itself by was revoked, or its tenant is no more (v5 0x98).
        Revoked => "revoked",
        /// The uplink did not take a message that must not be lost.
        UplinkRefused => "uplink_refused",
        /// An inner limit or failure (v5 0x83).
        Internal => "internal",
    }
}

labels! {
    /// Why TLS with a client failed.
    TlsFailure {
        /// What came first was no TLS.
        NotTls => "not_tls",
        /// No version, cipher suite or application protocol that both speak.
        NothingInCommon => "nothing_in_common",
        /// A client certificate is required, and none was shown.
        NoCertificate => "no_certificate",
        /// The client's certificate is of no authority that is trusted.
        UnknownAuthority => "unknown_authority",
        /// The client's certificate has expired, or is not valid yet.
        Expired => "expired",
        /// The client's certificate is on a revocation list.
        Revoked => "revoked",
        /// The client's certificate is bad in another way.
        BadCertificate => "bad_certificate",
        /// The client has refused to go on: it does not trust our certificate, for example.
        RefusedByClient => "refused_by_client",
        /// What came breaks TLS.
        Protocol => "protocol",
    }
}

labels! {
    /// Why a WebSocket did not come about, or was ended.
    WebSocketFailure {
        /// What came first was no request of HTTP/1.1.
        NotHttp => "not_http",
        /// The request's head is too large.
        HeadTooLarge => "head_too_large",
        /// The request is no GET.
        WrongMethod => "wrong_method",
        /// The request is for another path.
        WrongPath => "wrong_path",
        /// The request is for no WebSocket.
        NotAnUpgrade => "not_an_upgrade",
        /// The request is for another version of WebSocket.
        WrongVersion => "wrong_version",
        /// `Sec-WebSocket-Key` is missing or wrong.
        BadKey => "bad_key",
        /// Pages of that origin may not connect.
        ForbiddenOrigin => "forbidden_origin",
        /// The request does not offer MQTT.
        NoSubprotocol => "no_subprotocol",
        /// A frame that is not masked.
        Unmasked => "unmasked",
        /// A text message (MQTT-6.0.0-1).
        NotBinary => "not_binary",
        /// A frame over the limit.
        FrameTooLarge => "frame_too_large",
        /// The reason given for the end is no text.
        BadText => "bad_text",
        /// Any other frame that breaks the protocol.
        BadFrame => "bad_frame",
    }
}

labels! {
    /// Why a CONNECT was answered with a refusing CONNACK.
    ConnectRefusal {
        /// Protocol level not spoken here (1, v5 0x84).
        UnsupportedVersion => "unsupported_version",
        /// Client id not allowed (2, v5 0x85).
        BadClientId => "bad_client_id",
        /// The server cannot take the session now (3, v5 0x88 or 0x97).
        Unavailable => "unavailable",
        /// User name or password wrong (4, v5 0x86).
        BadCredentials => "bad_credentials",
        /// Not authorised (5, v5 0x87).
        NotAuthorized => "not_authorized",
        /// Too many attempts to log in have failed (3, v5 0x9F).
        TooManyAttempts => "too_many_attempts",
        /// A CONNECT that breaks the protocol (v5 0x81 or 0x82).
        Malformed => "malformed",
        /// Any other v5 reason.
        Other => "other",
    }
}

labels! {
    /// Why a message was dropped, in either direction.
    DropReason {
        /// The topic does not begin with `kp1`.
        NotKp1 => "not_kp1",
        /// The topic begins with `kp1` and is not a 1/KP path.
        MalformedTopic => "malformed_topic",
        /// No application version of that name.
        UnknownAppVersion => "unknown_app_version",
        /// The application version may not use that extension instance.
        ExtensionNotAllowed => "extension_not_allowed",
        /// No extension instance of that name.
        UnknownExtension => "unknown_extension",
        /// A request id over 2147483647, which 4/ESP cannot carry.
        RequestIdTooLarge => "request_id_too_large",
        /// The message does not fit in the NATS server's `max_payload`.
        PayloadTooLarge => "payload_too_large",
        /// No link to NATS.
        UplinkUnavailable => "uplink_unavailable",
        /// The link's buffers are full.
        UplinkFull => "uplink_full",
        /// An answer or a push for an endpoint that has no route here.
        NoRoute => "no_route",
        /// The connection speaks for as many endpoints as it may.
        TooManyEndpoints => "too_many_endpoints",
        /// The provider does not know the endpoint token, or it is suspended or revoked.
        TokenRejected => "token_rejected",
        /// Nobody could say whose the endpoint token is.
        TokenUnvalidated => "token_unvalidated",
        /// The client, or what answers it, belongs to another tenant than the application.
        WrongTenant => "wrong_tenant",
        /// The client has not proven what the tenant demands.
        NotProven => "not_proven",
        /// The endpoint is connected elsewhere, and its application's policy is `reject`.
        EndpointElsewhere => "endpoint_elsewhere",
        /// Too much waits for endpoint tokens to be validated.
        ParkedFull => "parked_full",
        /// The client reads too slowly.
        SlowConsumer => "slow_consumer",
        /// An ExtensionData datum that does not decode.
        BadExtensionData => "bad_extension_data",
        /// A 4/ESP message after its timeout.
        Expired => "expired",
        /// State of a session that was not resumed.
        NotResumed => "not_resumed",
    }
}

labels! {
    /// Status codes of the errors answered to devices (1/KP error responses).
    AnswerStatus {
        /// 400
        S400 => "400",
        /// 401
        S401 => "401",
        /// 403
        S403 => "403",
        /// 404
        S404 => "404",
        /// 409
        S409 => "409",
        /// 413
        S413 => "413",
        /// 429
        S429 => "429",
        /// 503
        S503 => "503",
        /// 504
        S504 => "504",
        /// Any other status; those of extension services are among them.
        Other => "other",
    }
}

impl AnswerStatus {
    /// The label of a status code.
    #[must_use]
    pub const fn of(status_code: i32) -> Self {
        match status_code {
            400 => Self::S400,
            401 => Self::S401,
            403 => Self::S403,
            404 => Self::S404,
            409 => Self::S409,
            413 => Self::S413,
            429 => Self::S429,
            503 => Self::S503,
            504 => Self::S504,
            _ => Self::Other,
        }
    }
}

labels! {
    /// Status codes of responses over HTTP, whoever they are from.
    HttpStatus {
        /// 200
        S200 => "200",
        /// Any other success.
        Success => "2xx",
        /// 400
        S400 => "400",
        /// 401
        S401 => "401",
        /// 403
        S403 => "403",
        /// 404
        S404 => "404",
        /// 405
        S405 => "405",
        /// 408
        S408 => "408",
        /// 409
        S409 => "409",
        /// 413
        S413 => "413",
        /// 429
        S429 => "429",
        /// 431
        S431 => "431",
        /// Any other error of the client's.
        ClientError => "4xx",
        /// 500
        S500 => "500",
        /// 502
        S502 => "502",
        /// 503
        S503 => "503",
        /// 504
        S504 => "504",
        /// Any other.
        Other => "other",
    }
}

impl HttpStatus {
    /// The label of a status code.
    #[must_use]
    pub const fn of(status_code: u16) -> Self {
        match status_code {
            200 => Self::S200,
            201..=299 => Self::Success,
            400 => Self::S400,
            401 => Self::S401,
            403 => Self::S403,
            404 => Self::S404,
            405 => Self::S405,
            408 => Self::S408,
            409 => Self::S409,
            413 => Self::S413,
            429 => Self::S429,
            431 => Self::S431,
            402..=499 => Self::ClientError,
            500 => Self::S500,
            502 => Self::S502,
            503 => Self::S503,
            504 => Self::S504,
            _ => Self::Other,
        }
    }
}

labels! {
    /// What came of asking a provider of credentials.
    AskOutcome {
        /// The credentials are good.
        Granted => "granted",
        /// They are not.
        Rejected => "rejected",
        /// The provider said that it could not tell (5xx), or it has too much to do.
        Failed => "failed",
        /// No answer in time.
        TimedOut => "timed_out",
        /// No such service listens.
        NobodyThere => "nobody_there",
        /// An answer that does not decode.
        Malformed => "malformed",
        /// An answer nobody waits for (any more).
        Late => "late",
    }
}

labels! {
    /// Why the control thread gave a push from the instance-wide subject to no shard.
    PushDrop {
        /// No endpoint of that id is connected to this replica; another may hold it.
        NotHeld => "not_held",
        /// The datum names no endpoint.
        NoEndpoint => "no_endpoint",
        /// The datum does not decode.
        Malformed => "malformed",
        /// It is for another tenant's endpoint of the same id.
        WrongTenant => "wrong_tenant",
        /// The shard's mailbox is full.
        MailboxFull => "mailbox_full",
        /// The control thread did not keep up, and its NATS client dropped the message.
        ControlBusy => "control_busy",
    }
}

labels! {
    /// What was revoked.
    RevocationKind {
        /// Tokens of an endpoint.
        Tokens => "tokens",
        /// Credentials of a client.
        Client => "client",
        /// A tenant, with all that is its.
        Tenant => "tenant",
    }
}

labels! {
    /// What is told of endpoints.
    ConnectivityKind {
        /// They have connected.
        Connected => "connected",
        /// They have disconnected.
        Disconnected => "disconnected",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_is_snake_case_unique_and_at_its_index() {
        fn check(labels: Vec<(usize, &str)>) {
            let mut seen = std::collections::HashSet::new();
            for (place, (index, text)) in labels.into_iter().enumerate() {
                assert_eq!(place, index);
                assert!(seen.insert(text), "{text} twice");
                assert!(
                    text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_')),
                    "{text}"
                );
            }
        }
        check(CloseReason::ALL.iter().map(|l| (l.index(), l.as_str())).collect());
        check(TlsFailure::ALL.iter().map(|l| (l.index(), l.as_str())).collect());
        check(WebSocketFailure::ALL.iter().map(|l| (l.index(), l.as_str())).collect());
        check(ConnectRefusal::ALL.iter().map(|l| (l.index(), l.as_str())).collect());
        check(DropReason::ALL.iter().map(|l| (l.index(), l.as_str())).collect());
        check(HttpStatus::ALL.iter().map(|l| (l.index(), l.as_str())).collect());
        check(AnswerStatus::ALL.iter().map(|l| (l.index(), l.as_str())).collect());
        check(AskOutcome::ALL.iter().map(|l| (l.index(), l.as_str())).collect());
        check(RevocationKind::ALL.iter().map(|l| (l.index(), l.as_str())).collect());
        check(ConnectivityKind::ALL.iter().map(|l| (l.index(), l.as_str())).collect());
        check(PushDrop::ALL.iter().map(|l| (l.index(), l.as_str())).collect());
    }

    #[test]
    fn status_codes_without_a_label_are_other() {
        assert_eq!(AnswerStatus::of(404), AnswerStatus::S404);
        assert_eq!(AnswerStatus::of(418), AnswerStatus::Other);
        assert_eq!(AnswerStatus::of(-1), AnswerStatus::Other);
    }
}
