//! One workload for all guards: a client and a server over `memory:`, on one thread.
//!
//! Guards count instead of timing, so a busy machine does not shake them. They need no Kafka,
//! and this package does not depend on librdkafka: what is counted is kRPC alone.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use krpc::Call;
use krpc_core::{
    error::SetupError,
    server::{driver::Server, options::ServerOptions, service::Service},
    transport::{TransportConfig, memory::MemoryEndpoint},
};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
};

/// 16 bytes of values: two numbers that fill their 8 bytes each.
#[krpc::service]
trait Sum {
    async fn add(&self, x: i64, y: i64) -> i64;
    #[rpc(idempotent)]
    async fn add_again(&self, x: i64, y: i64) -> i64;
}

struct Adder;

impl Sum for Adder {
    async fn add(&self, x: i64, y: i64) -> i64 {
        x.wrapping_add(y)
    }

    async fn add_again(&self, x: i64, y: i64) -> i64 {
        x.wrapping_add(y)
    }
}

/// A client and its server.
#[derive(Debug)]
pub struct Workload {
    runtime: Runtime,
    client: SumClient,
    _server: Server,
}

impl Workload {
    /// Starts both. Warm them up by some calls before anything is counted.
    ///
    /// # Errors
    /// Whatever keeps them from starting.
    pub fn start() -> Result<Self, Box<dyn Error>> {
        // A slow or busy machine must not decide how handlers are run.
        Self::with_first_poll(Duration::MAX)
    }

    /// The same, but nearly every handler counts as slow, so that those after it become tasks.
    ///
    /// # Errors
    /// Whatever keeps them from starting.
    pub fn with_tasks() -> Result<Self, Box<dyn Error>> {
        Self::with_first_poll(Duration::ZERO)
    }

    fn with_first_poll(first_poll: Duration) -> Result<Self, Box<dyn Error>> {
        static WORKLOADS: AtomicU32 = AtomicU32::new(0);
        let endpoint = format!("memory:guards-{}", WORKLOADS.fetch_add(1, Ordering::Relaxed));
        let memory = MemoryEndpoint::new(&endpoint, TransportConfig::default());
        let services: Vec<Arc<dyn Service>> = vec![Arc::new(SumServer::new(Adder))];
        let options = ServerOptions { first_poll, ..ServerOptions::default() };
        // One thread, so that every run does the same in the same order.
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (client, server) = runtime.block_on(async {
            let server = Server::start(&memory, services, options).await?;
            Ok::<_, SetupError>((SumClient::connect(endpoint).await?, server))
        })?;
        Ok(Self { runtime, client, _server: server })
    }

    /// Makes `rounds` calls one after the other in each of `callers` tasks, and checks every
    /// answer.
    ///
    /// # Errors
    /// A call failed, or its answer is wrong.
    pub fn calls(&self, callers: u32, rounds: u32) -> Result<(), Box<dyn Error>> {
        self.call_by(SumClient::add, callers, rounds)
    }

    /// The same with calls that may be sent again.
    ///
    /// # Errors
    /// As [`Workload::calls`].
    pub fn idempotent_calls(&self, callers: u32, rounds: u32) -> Result<(), Box<dyn Error>> {
        self.call_by(SumClient::add_again, callers, rounds)
    }

    fn call_by(&self, method: Method, callers: u32, rounds: u32) -> Result<(), Box<dyn Error>> {
        self.runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for caller in 0..callers {
                tasks.spawn(call_in_turn(self.client.clone(), method, caller.into(), rounds));
            }
            while let Some(ended) = tasks.join_next().await {
                ended??;
            }
            Ok(())
        })
    }
}

/// One of the client's.
type Method = fn(&SumClient, i64, i64) -> Call<i64>;

async fn call_in_turn(
    client: SumClient,
    method: Method,
    caller: i64,
    rounds: u32,
) -> Result<(), String> {
    for round in 0..rounds {
        let (x, y) = (i64::MAX - caller, i64::MIN + i64::from(round));
        let sum = method(&client, x, y).await.map_err(|error| error.to_string())?;
        if sum != x.wrapping_add(y) {
            return Err(format!("{x} + {y} is not {sum}"));
        }
    }
    Ok(())
}
