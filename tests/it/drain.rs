//! SIGTERM: what runs is finished, then the process ends well.
use serde_json::json;

use crate::support::{Act, Setup, Upstream, Wire, ms};

#[tokio::test]
async fn what_runs_is_finished_and_the_exit_code_is_0() {
    let upstream = Upstream::start(Act::say("Hello, drained world").every(ms(100))).await;
    let mut gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let mut stream =
        gateway.stream("/stream", &json!({"prompt": "Hi", "user_id": "u", "mode": "chat"})).await;
    stream.next().await.unwrap();
    gateway.signal("TERM");
    let mut messages = stream.messages().await;
    assert_eq!(messages.pop().as_deref(), Some("[DONE]"));
    assert!("Hello, drained world".ends_with(&messages.concat()), "{messages:?}");
    let status = gateway.exit(ms(3000)).await.expect("the process ends");
    assert_eq!(status.code(), Some(0));
    gateway.audit(1).await;
}

#[tokio::test]
async fn while_it_drains_it_is_not_ready() {
    let upstream = Upstream::start(Act::say("Hello").every(ms(300))).await;
    let mut gateway = Setup::one(Wire::OpenAi, &upstream).start().await;
    let mut stream =
        gateway.stream("/stream", &json!({"prompt": "Hi", "user_id": "u", "mode": "chat"})).await;
    stream.next().await.unwrap();
    gateway.signal("TERM");
    tokio::time::sleep(ms(100)).await;
    // Either the port is closed by now, or /readyz says no.
    if tokio::net::TcpStream::connect(gateway.address).await.is_ok() {
        assert_eq!(gateway.get("/readyz").await.status, 503);
    }
    stream.rest().await;
    assert!(gateway.exit(ms(3000)).await.is_some());
}

#[tokio::test]
async fn draining_has_an_end() {
    let upstream = Upstream::start(Act::default().hang_after(4)).await;
    let settings = json!({"server": {"drain": "500ms"}, "timeouts": {"idle": "30s", "total": "30s"}});
    let mut gateway = Setup::one(Wire::OpenAi, &upstream).set(&settings).start().await;
    let mut stream =
        gateway.stream("/stream", &json!({"prompt": "Hi", "user_id": "u", "mode": "chat"})).await;
    stream.next().await.unwrap();
    gateway.signal("TERM");
    assert!(gateway.exit(ms(3000)).await.is_some(), "a call that hangs holds up the exit");
}
