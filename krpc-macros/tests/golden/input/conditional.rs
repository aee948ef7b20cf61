/// Only with the feature.
#[krpc::service]
#[cfg(feature = "billing")]
#[deprecated = "use `Invoices`"]
pub trait Billing {
    /// Charges an account.
    #[cfg(feature = "charge")]
    async fn charge(&self, account: String, cents: u64) -> Result<(), BillingError>;

    /// The balance, in cents.
    #[deprecated(since = "1.1", note = "use `statement`")]
    #[must_use = "a balance is asked for to be read"]
    async fn balance(&self, account: String) -> i64;
}
