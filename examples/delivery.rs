//! Keys, one-way calls, calls at most once, tickets, delays, idempotency keys and dead letters in
//! one program: `cargo run --example delivery`. It needs no broker; with
//! `KRPC_ENDPOINT=localhost:9092` the same program speaks through Apache Kafka.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::future::try_join_all;
use krpc::{prelude::*, store::MemoryStore};
use tokio::sync::Notify;

static POST_IS_OPEN: AtomicBool = AtomicBool::new(false);
static MAILED: Notify = Notify::const_new();

#[krpc::service]
trait Shop {
    /// Calls for one account run one at a time, in order; other accounts run beside it.
    #[rpc(key = account)]
    async fn deposit(&self, account: String, cents: u64) -> u64;

    /// Done when the broker has it; executed again when it fails, three times in all.
    #[rpc(one_way, retry(max = 3, backoff = "1ms..10ms"))]
    async fn mail(&self, to: String) -> Result<(), String>;

    /// Never executed twice, not even when its server is killed.
    #[rpc(at_most_once)]
    async fn print_cheque(&self, cents: u64) -> bool;

    /// Calls with the same idempotency key share one result, for a day.
    #[rpc(retention = "1d")]
    async fn order(&self, article: String) -> u64;
}

#[derive(Default)]
struct Counter {
    balance: AtomicU64,
    orders: AtomicU64,
}

impl Shop for Counter {
    async fn deposit(&self, _account: String, cents: u64) -> u64 {
        self.balance.fetch_add(cents, Ordering::Relaxed) + cents
    }

    async fn mail(&self, to: String) -> Result<(), String> {
        if !POST_IS_OPEN.load(Ordering::Relaxed) {
            return Err("the post is closed".to_owned());
        }
        println!("mailed to {to}");
        MAILED.notify_one();
        Ok(())
    }

    async fn print_cheque(&self, _cents: u64) -> bool {
        true
    }

    async fn order(&self, _article: String) -> u64 {
        self.orders.fetch_add(1, Ordering::Relaxed) + 1
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoint = std::env::var("KRPC_ENDPOINT").unwrap_or("memory:shop".to_owned());
    let channel = Channel::connect(&endpoint).await?;
    let shop = ShopClient::new(&channel);

    // No server is there yet: these wait in the topic.
    shop.mail("ann@example.org".to_owned()).await?;
    let ticket = shop.order("a lamp".to_owned()).enqueue().await?;
    let unwanted = shop.order("another lamp".to_owned()).enqueue().await?;
    shop.cancel(&unwanted).await?;
    let kept = serde_json::to_string(&ticket)?;

    let service = ShopServer::new(Counter::default());
    let server =
        Server::builder(&endpoint).serve(service).result_store(MemoryStore::new()).start().await?;

    let ticket: Ticket<u64> = serde_json::from_str(&kept)?;
    println!("order {} is in", shop.attach(&ticket).await?);
    let gone = shop.attach(&unwanted).await.map_err(|error| error.code());
    println!("the other was cancelled: {gone:?}");

    let account = "ann".to_owned();
    let deposits = [shop.deposit(account.clone(), 100), shop.deposit(account, 50)];
    for balance in try_join_all(deposits).await? {
        println!("{balance} cents");
    }

    let begun = std::time::Instant::now();
    let later = shop.order("a cake".to_owned()).delay(millis(300)).await?;
    println!("order {later} was in no sooner: {}", begun.elapsed() >= millis(300));

    let order = || shop.order("a chair".to_owned()).idempotency_key("basket 7");
    println!("order {} is order {}", order().await?, order().await?);

    match shop.print_cheque(995).await {
        Ok(printed) => println!("printed: {printed}"),
        Err(error) if error.is_outcome_unknown() => println!("look into the printer"),
        Err(error) if error.is_retryable() => println!("not printed: {error}"),
        Err(error) => println!("printed or not: {error}"),
    }

    // The mail has failed three times, or is about to.
    let letters = channel.dead_letters("Shop");
    let letter = loop {
        if let Some(letter) = letters.list().await?.pop() {
            break letter;
        }
        tokio::time::sleep(millis(10)).await;
    };
    println!("{} failed {} times: {}", letter.method, letter.attempts, letter.cause);
    POST_IS_OPEN.store(true, Ordering::Relaxed);
    letters.replay(&letter.id).await?;
    MAILED.notified().await;
    Ok(server.shutdown().await?)
}
