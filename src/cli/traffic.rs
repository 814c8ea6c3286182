//! Synthetic traffic for the demo: real HTTP requests of made-up users.
//!
//! One user is hot, one library forgets who the user is, one client sends what is not JSON, and
//! carts go to a stream of their own.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::service::Stop;

/// Bursts a second.
const TICKS: u32 = 10;
/// The share of events that come from the hot user.
const HOT: f64 = 0.2;
/// The share that the faulty library sends.
const FAULTY: f64 = 0.03;

/// What the sender knows of its own traffic.
#[derive(Debug, Default)]
pub struct Sent {
    /// Events sent.
    pub events: u64,
    /// Events whose request was answered 2xx.
    pub acknowledged: u64,
    /// Of those, events that name no user: they become dead letters.
    pub without_user: u64,
    /// Requests with another answer, or none; malformed bodies are meant to be refused.
    pub refused: u64,
}

/// Sends about `rate` events a second until it is told to stop.
pub async fn send(service: SocketAddr, rate: u32, stop: Stop) -> Sent {
    let mut sent = Sent::default();
    let mut random = StdRng::seed_from_u64(7);
    let mut connection = None;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / TICKS);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut owed = 0.0;
    let stopped = stop.stopped();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = &mut stopped => return sent,
        }
        owed += f64::from(rate) / f64::from(TICKS);
        while owed >= 1.0 {
            let request = MadeUp::new(&mut random, owed as usize);
            owed -= request.events as f64;
            // What is under way when the demo is stopped is finished: the answer counts.
            post(service, &mut connection, request, &mut sent).await;
        }
    }
}

/// One request.
struct MadeUp {
    path: &'static str,
    body: String,
    events: usize,
    without_user: usize,
}

impl MadeUp {
    fn new(random: &mut StdRng, events_max: usize) -> Self {
        let dice: f64 = random.random();
        if dice < 0.005 {
            let body = r#"{"event": "Cart Updated", "total": 12.50,}"#.to_owned();
            return Self { path: "/collect/carts", body, events: 0, without_user: 0 };
        }
        if dice < 0.15 {
            let total = f64::from(random.random_range(100..20_000)) / 100.0;
            let user = user(random);
            let body = json!({"userId": user, "type": "cart", "total": total}).to_string();
            return Self { path: "/collect/carts", body, events: 1, without_user: 0 };
        }
        let events = random.random_range(1..=20).min(events_max.max(1));
        let mut without_user = 0;
        let batch: Vec<Value> = (0..events).map(|_| call(random, &mut without_user)).collect();
        let sent_at = eventkit::time::format(eventkit::time::now());
        let body = json!({"batch": batch, "sentAt": sent_at}).to_string();
        Self { path: "/v1/batch", body, events, without_user }
    }
}

fn user(random: &mut StdRng) -> String {
    match random.random_bool(HOT) {
        true => "user-00042".to_owned(),
        false => format!("user-{:05}", random.random_range(0..2000)),
    }
}

/// A call of the analytics libraries.
fn call(random: &mut StdRng, without_user: &mut usize) -> Value {
    let at = eventkit::time::now() - random.random_range(0..2_000_000);
    let timestamp = eventkit::time::format(at);
    let price = f64::from(random.random_range(100..9_999)) / 100.0;
    if random.random_bool(FAULTY) {
        *without_user += 1;
        return json!({
            "type": "track", "event": "Order Completed", "timestamp": timestamp,
            "properties": {"uid": user(random), "total": price},
            "context": {"library": {"name": "shop-ios", "version": "8.2.0"}},
        });
    }
    let user = user(random);
    let context = json!({"library": {"name": "analytics.js", "version": "4.1.0"}, "locale": "de"});
    match random.random_range(0..10) {
        0 => json!({
            "type": "identify", "userId": user, "timestamp": timestamp,
            "traits": {"plan": "pro", "seats": random.random_range(1..50)}, "context": context,
        }),
        1..=4 => json!({
            "type": "page", "userId": user, "timestamp": timestamp, "name": "Product",
            "properties": {"path": format!("/p/{}", random.random_range(0..500))},
            "context": context,
        }),
        _ => json!({
            "type": "track", "event": "Product Viewed", "userId": user, "timestamp": timestamp,
            "properties": {"price": price, "currency": "EUR"}, "context": context,
        }),
    }
}

type Connection = SendRequest<Full<Bytes>>;

async fn post(
    service: SocketAddr,
    connection: &mut Option<Connection>,
    made_up: MadeUp,
    sent: &mut Sent,
) {
    sent.events += made_up.events as u64;
    let request = Request::post(made_up.path)
        .header("host", service.to_string())
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(made_up.body)));
    let Ok(request) = request else { return };
    let status = match connect(service, connection).await {
        Some(sender) => match sender.send_request(request).await {
            Ok(response) => {
                let status = response.status();
                // The body has to be read for the connection to be used again.
                match response.into_body().collect().await {
                    Ok(_) => Some(status),
                    Err(_) => None,
                }
            }
            Err(_) => None,
        },
        None => None,
    };
    if status.is_some_and(|status| status.is_success()) {
        sent.acknowledged += made_up.events as u64;
        sent.without_user += made_up.without_user as u64;
    } else {
        sent.refused += 1;
        if status.is_none() {
            *connection = None;
        }
    }
}

async fn connect(
    service: SocketAddr,
    connection: &mut Option<Connection>,
) -> Option<&mut Connection> {
    let alive = match connection {
        Some(sender) => sender.ready().await.is_ok(),
        None => false,
    };
    if !alive {
        let stream = TcpStream::connect(service).await.ok()?;
        let (sender, driver) = handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(driver);
        *connection = Some(sender);
    }
    connection.as_mut()
}
