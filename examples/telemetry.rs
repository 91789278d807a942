//! Device telemetry: averages over time windows, and alerts on a separate stream.
//!
//! Each device puts its temperature once a second, with the device as the partition key. The monitor averages the readings over windows
//! of ten seconds. When an average rises above a limit or falls below it again, the monitor puts an alert on a second stream, where a
//! reader waits. The readings of one device arrive in order, so the first reading after a window completes it: no reading comes late.
//!
//! The example makes up ten minutes of readings from twenty devices. One device is too hot for two minutes, which causes two alerts.
//! Another has one wild reading, which disappears in the average.
//!
//! ```text
//! cargo run --example telemetry
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::thread;

use streamlog::{Error as StreamError, Position, SECOND, Stream, StreamOptions};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const WINDOW_SECONDS: u64 = 10;
const CELSIUS_MAX: f64 = 80.0;

fn main() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let readings = StreamOptions::new().shards(4).open(directory.path().join("readings"))?;
    let alerts = Stream::open(directory.path().join("alerts"))?;
    let (window_count, alerted) = thread::scope(|scope| -> Result<_> {
        let on_call = scope.spawn(|| wait_for_alerts(&alerts));
        let monitor = scope.spawn(|| monitor(&readings, &alerts));
        let put = put_readings(&readings);
        // Closing its stream ends each reader, after it has read everything.
        readings.clone().close()?;
        let window_count = monitor.join().map_err(|_| "the monitor has died")?;
        alerts.clone().close()?;
        let alerted = on_call.join().map_err(|_| "nobody is on call")??;
        put?;
        Ok((window_count?, alerted))
    })?;
    println!("{window_count} windows, {} alerts", alerted.len());
    assert_eq!(window_count, DEVICES * SECONDS / WINDOW_SECONDS);
    assert_eq!(alerted, ["device-07 is too hot since 180 s", "device-07 is well again since 300 s"]);
    Ok(())
}

/// The monitor's state of a device.
#[derive(Default)]
struct Device {
    /// The start of the current window.
    window: u64,
    sum: f64,
    count: u64,
    is_hot: bool,
}

impl Device {
    /// Adds a reading. The first reading after the current window ends that window. If this changes the state of the device, returns
    /// whether it is hot now, and since when.
    fn take(&mut self, second: u64, celsius: f64) -> Option<(bool, u64)> {
        let window = second - second % WINDOW_SECONDS;
        let change = if window > self.window { self.end_window() } else { None };
        self.window = window;
        self.sum += celsius;
        self.count += 1;
        change
    }

    fn end_window(&mut self) -> Option<(bool, u64)> {
        let was_hot = self.is_hot;
        self.is_hot = self.sum / self.count as f64 > CELSIUS_MAX;
        (self.sum, self.count) = (0.0, 0);
        (self.is_hot != was_hot).then_some((self.is_hot, self.window))
    }
}

/// Watches all devices until their stream is closed. Returns the number of windows.
fn monitor(readings: &Stream, alerts: &Stream) -> Result<u64> {
    let mut devices: HashMap<String, Device> = HashMap::new();
    let mut iterator = readings.lineage_iterator(Position::TrimHorizon)?;
    let mut window_count = 0;
    loop {
        match iterator.wait(SECOND) {
            // The last window of each device also ends here. In this example no device is too hot in it.
            Err(StreamError::Closed) => return Ok(window_count + devices.len() as u64),
            waited => waited?,
        };
        for record in &iterator.next_batch(1_000)? {
            let name = std::str::from_utf8(record.partition_key())?;
            let (second, celsius) =
                std::str::from_utf8(record.data())?.split_once(' ').ok_or("no reading")?;
            let device = devices.entry(name.to_owned()).or_default();
            let window_before = device.window;
            if let Some((is_hot, since)) = device.take(second.parse()?, celsius.parse()?) {
                let what = if is_hot { "too hot" } else { "well again" };
                alerts.put(name, format!("{name} is {what} since {since} s"))?;
            }
            window_count += u64::from(device.window != window_before);
        }
    }
}

/// Prints alerts as they arrive.
fn wait_for_alerts(alerts: &Stream) -> Result<Vec<String>> {
    let mut iterator = alerts.lineage_iterator(Position::TrimHorizon)?;
    let mut alerted = vec![];
    loop {
        match iterator.wait(SECOND) {
            Err(StreamError::Closed) => return Ok(alerted),
            waited => waited?,
        };
        for record in &iterator.next_batch(100)? {
            let alert = String::from_utf8_lossy(record.data()).into_owned();
            println!("ALERT {alert}");
            alerted.push(alert);
        }
    }
}

// ---- The devices ----

const DEVICES: u64 = 20;
const SECONDS: u64 = 600;

fn put_readings(readings: &Stream) -> Result<()> {
    for second in 0..SECONDS {
        for device in 0..DEVICES {
            let mut celsius = 60.0 + ((device * 7 + second * 13) % 100) as f64 / 10.0;
            celsius += match (device, second) {
                (7, 180..300) => 30.0,
                (11, 400) => 100.0,
                _ => 0.0,
            };
            readings.put(format!("device-{device:02}"), format!("{second} {celsius:.1}"))?;
        }
    }
    Ok(())
}
