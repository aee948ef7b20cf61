//! The context is there for who asks, and the client does not have it.

use krpc::Context;

#[krpc::service]
trait Who {
    async fn tenant(&self, cx: &Context, otherwise: String) -> String;
    async fn attempt(&self, context: &krpc::Context) -> u32;
}

struct Imp;

impl Who for Imp {
    async fn tenant(&self, cx: &Context, otherwise: String) -> String {
        cx.metadata().get("tenant").map_or(otherwise, str::to_owned)
    }

    async fn attempt(&self, context: &krpc::Context) -> u32 {
        context.attempt()
    }
}

#[tokio::main]
async fn main() {
    let who = WhoClient::local(Imp);
    assert_eq!(who.tenant("none".to_owned()).await.unwrap(), "none");
    let named = who.tenant("none".to_owned()).header("tenant", "a");
    assert_eq!(named.await.unwrap(), "a");
    assert_eq!(who.attempt().await.unwrap(), 1);
}
