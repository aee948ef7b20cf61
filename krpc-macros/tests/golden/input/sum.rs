/// Arithmetic, for everyone.
#[krpc::service]
pub trait Sum {
    /// Adds two numbers.
    async fn add(&self, x: i64, y: i64) -> i64;

    /// Divides `x` by `y`.
    #[rpc(timeout = "2s", idempotent)]
    async fn divide(&self, cx: &Context, x: f64, y: f64) -> Result<f64, MathError>;
}
