//! Durations as options write them, the same as in `KRPC_*`: `500ms`, `2s`, `100ms..10s`.

use std::time::Duration;

use syn::LitStr;

/// The longest one: longer ones are mistakes, and the sum with any date stays in range.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// `500ms`, `2s`, `5m`, `1h`, `7d`; `what` it is, for the message: `a timeout`.
pub(super) fn duration(what: &str, text: &LitStr) -> syn::Result<Duration> {
    parse(what, &text.value()).map_err(|message| syn::Error::new(text.span(), message))
}

/// `100ms..10s`: the first and the longest of pauses that grow.
pub(super) fn pauses(text: &LitStr) -> syn::Result<(Duration, Duration)> {
    let pauses = || {
        let value = text.value();
        let form = "`backoff` expects the first pause and the longest: \"100ms..10s\"";
        let (first, most) = value.split_once("..").ok_or(form)?;
        let (first, most) = (parse("a pause", first)?, parse("a pause", most)?);
        if first > most {
            return Err(format!(
                "the first pause is not longer than the longest: \"{most:?}..{first:?}\""
            ));
        }
        Ok((first, most))
    };
    pauses().map_err(|message| syn::Error::new(text.span(), message))
}

fn parse(what: &str, text: &str) -> Result<Duration, String> {
    let form =
        || format!("{what} is a whole number and `ms`, `s`, `m`, `h` or `d`: \"500ms\", \"2s\"");
    let long = || format!("{what} is at most 366 days");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(form()),
    };
    if number.is_empty() {
        return Err(form());
    }
    // Only digits, so what does not fit is too long.
    let number: u64 = number.parse().map_err(|_| long())?;
    match Duration::from_millis(number.checked_mul(millis).ok_or_else(long)?) {
        Duration::ZERO => Err(format!("{what} is longer than zero")),
        duration if duration > LONGEST => Err(long()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proc_macro2::Span;

    use super::*;

    #[test]
    fn durations() {
        let parse = |text| super::parse("it", text);
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse("8784h"), Ok(LONGEST));
        assert_eq!(parse("366d"), Ok(LONGEST));
        for bad in [
            "",
            "s",
            "2",
            "2 s",
            " 2s",
            "2s ",
            "-2s",
            "+2s",
            "1.5s",
            "2ns",
            "2S",
            "0s",
            "8785h",
            "367d",
            "99999999999999999999s",
            "18446744073709551615h",
            "2s3",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn pauses_grow() {
        let pauses = |text| super::pauses(&LitStr::new(text, Span::call_site()));
        let (first, most) = pauses("100ms..10s").unwrap();
        assert_eq!((first, most), (Duration::from_millis(100), Duration::from_secs(10)));
        assert!(pauses("1s..1s").is_ok());
        for bad in ["", "..", "1s", "1s..", "..1s", "1s..2", "2s..1s", "0s..1s", "1s...2s", "1..2s"]
        {
            assert!(pauses(bad).is_err(), "{bad:?}");
        }
        let reversed = pauses("10s..100ms").unwrap_err().to_string();
        assert!(reversed.contains("\"100ms..10s\""), "{reversed}");
    }
}
