//! By which clients come, as far as what they must show depends on it.

/// By which a client comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Plain MQTT.
    MqttTcp,
    /// MQTT over TLS.
    MqttTls,
    /// MQTT over WebSocket, over TLS or not.
    MqttWs,
    /// HTTP, over TLS or not.
    Http,
}

/// Something of each transport.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PerTransport<T> {
    /// Of plain MQTT.
    pub mqtt_tcp: T,
    /// Of MQTT over TLS.
    pub mqtt_tls: T,
    /// Of MQTT over WebSocket.
    pub mqtt_ws: T,
    /// Of HTTP.
    pub http: T,
}

impl Transport {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::MqttTcp, Self::MqttTls, Self::MqttWs, Self::Http];

    /// Its name in keys and options.
    pub const fn word(self) -> &'static str {
        match self {
            Self::MqttTcp => "mqtt-tcp",
            Self::MqttTls => "mqtt-tls",
            Self::MqttWs => "mqtt-ws",
            Self::Http => "http",
        }
    }

    /// Its name in JSON.
    pub const fn field(self) -> &'static str {
        match self {
            Self::MqttTcp => "mqttTcp",
            Self::MqttTls => "mqttTls",
            Self::MqttWs => "mqttWs",
            Self::Http => "http",
        }
    }

    /// Its name in a sentence.
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::MqttTcp => "plain MQTT",
            Self::MqttTls => "MQTT over TLS",
            Self::MqttWs => "MQTT over WebSocket",
            Self::Http => "HTTP",
        }
    }

    /// Whether a client can say a user name and password there.
    pub const fn has_passwords(self) -> bool {
        !matches!(self, Self::Http)
    }
}

impl<T> PerTransport<T> {
    /// What `make` makes of each.
    pub fn of_each(mut make: impl FnMut(Transport) -> T) -> Self {
        Self {
            mqtt_tcp: make(Transport::MqttTcp),
            mqtt_tls: make(Transport::MqttTls),
            mqtt_ws: make(Transport::MqttWs),
            http: make(Transport::Http),
        }
    }

    /// That of one, to change.
    pub fn of_mut(&mut self, transport: Transport) -> &mut T {
        match transport {
            Transport::MqttTcp => &mut self.mqtt_tcp,
            Transport::MqttTls => &mut self.mqtt_tls,
            Transport::MqttWs => &mut self.mqtt_ws,
            Transport::Http => &mut self.http,
        }
    }

    /// All of them, to change.
    pub fn each_mut(&mut self) -> [(Transport, &mut T); 4] {
        [
            (Transport::MqttTcp, &mut self.mqtt_tcp),
            (Transport::MqttTls, &mut self.mqtt_tls),
            (Transport::MqttWs, &mut self.mqtt_ws),
            (Transport::Http, &mut self.http),
        ]
    }
}

impl<T: Copy> PerTransport<T> {
    /// That of one.
    pub fn of(&self, transport: Transport) -> T {
        match transport {
            Transport::MqttTcp => self.mqtt_tcp,
            Transport::MqttTls => self.mqtt_tls,
            Transport::MqttWs => self.mqtt_ws,
            Transport::Http => self.http,
        }
    }
}
