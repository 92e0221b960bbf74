//! Waits for a condition and, when it does not come, says what was still false.
//!
//! Must not know what is waited for.

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// How long to rest between two looks.
const PAUSE: Duration = Duration::from_millis(250);

/// The condition did not come true in time.
#[derive(Debug, thiserror::Error)]
#[error("wait for {what}: still not so after {} s: {last}", limit.as_secs())]
pub(crate) struct Timeout {
    what: String,
    limit: Duration,
    last: String,
}

/// Looks again and again until `probe` succeeds; each failure is the status to report if it was the last.
pub(crate) async fn until<T, F>(
    what: impl Into<String>,
    limit: Duration,
    mut probe: impl FnMut() -> F,
) -> Result<T, Timeout>
where
    F: Future<Output = Result<T, String>>,
{
    let start = Instant::now();
    loop {
        match probe().await {
            Ok(value) => return Ok(value),
            Err(last) if start.elapsed() >= limit => return Err(Timeout { what: what.into(), limit, last }),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_status_is_reported() {
        let mut looks = 0;
        let value = until("three looks", Duration::from_secs(9), || {
            looks += 1;
            std::future::ready(if looks == 3 { Ok(looks) } else { Err(format!("look {looks}")) })
        });
        assert_eq!(value.await.unwrap(), 3);
        let never = until("rain", Duration::ZERO, || std::future::ready(Err::<(), _>("blue sky".to_owned())));
        assert_eq!(never.await.unwrap_err().to_string(), "wait for rain: still not so after 0 s: blue sky");
    }
}
