//! End-to-end tests: the real `ringgate` binary between devices and a real nats-server.
//!
//! They need `nats-server`, the mosquitto clients, a Python with paho-mqtt, Node with MQTT.js,
//! curl and HAProxy; `scripts/test` installs these and says where they are.

mod harness;

mod answers;
mod auth_abuse;
mod auth_clients;
mod auth_connectivity;
mod auth_internal;
mod auth_parking;
mod auth_providers;
mod auth_rest;
mod auth_revocation;
mod auth_roaming;
mod auth_tenants;
mod auth_tokens;
mod bad_input;
mod check;
mod client_data;
mod connect;
mod door_abuse;
mod errors;
mod harness_works;
mod http;
mod io_uring_refused;
mod lifecycle;
mod listeners;
mod management;
mod many_clients;
mod nats_away;
mod nats_security;
mod own_clients;
mod proxy_protocol;
mod puback;
mod pushes;
mod qos;
mod sessions;
mod subscriptions;
mod tls;
mod tls_clients;
mod tls_identity;
mod v5;
mod websocket;
