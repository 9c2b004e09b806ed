//! Facts about the process, under the names that every Prometheus user knows.

use prometheus::{Counter, Gauge, IntCounter, IntGauge, Opts, Registry};

use crate::clock::Clock;

/// Read from `/proc/self` when somebody asks.
#[derive(Clone)]
pub struct ProcessMetrics {
    resident: IntGauge,
    virtual_bytes: IntGauge,
    cpu: Counter,
    threads: IntGauge,
    open_files: IntGauge,
    dropped_lines: IntCounter,
}

impl ProcessMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn new(registry: &Registry, clock: &Clock) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::with_opts(Opts::new(name, help))?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let start = Gauge::new("process_start_time_seconds", "When the process started, Unix time.")?;
        #[expect(clippy::cast_precision_loss, reason = "a float is what the format has")]
        start.set(clock.now().micros() as f64 / 1e6);
        registry.register(Box::new(start))?;
        let cpu = Counter::new("process_cpu_seconds_total", "Processor time used.")?;
        registry.register(Box::new(cpu.clone()))?;
        let dropped_lines = IntCounter::new(
            "agentd_log_lines_dropped_total",
            "Log lines lost because standard output did not take them.",
        )?;
        registry.register(Box::new(dropped_lines.clone()))?;
        Ok(Self {
            resident: gauge("process_resident_memory_bytes", "Memory in RAM.")?,
            virtual_bytes: gauge("process_virtual_memory_bytes", "Address space.")?,
            threads: gauge("process_threads", "Threads.")?,
            open_files: gauge("process_open_fds", "Open file descriptors.")?,
            dropped_lines,
            cpu,
        })
    }

    /// Reads the present values. A value that cannot be read keeps its last.
    pub fn refresh(&self) {
        if let Ok(statm) = std::fs::read_to_string("/proc/self/statm") {
            let page = i64::try_from(rustix::param::page_size()).unwrap_or(4096);
            let mut pages = statm.split(' ').map_while(|field| field.parse::<i64>().ok());
            self.virtual_bytes.set(pages.next().unwrap_or(0) * page);
            self.resident.set(pages.next().unwrap_or(0) * page);
        }
        if let Ok(stat) = std::fs::read_to_string("/proc/self/stat") {
            // Fields after the name in parentheses, which can hold anything.
            let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
            let field = |place: usize| fields.split(' ').nth(place)?.parse::<f64>().ok();
            #[expect(clippy::cast_precision_loss, reason = "a hundred ticks a second")]
            let ticks = rustix::param::clock_ticks_per_second() as f64;
            if let (Some(user), Some(system)) = (field(11), field(12)) {
                let used = (user + system) / ticks;
                self.cpu.inc_by((used - self.cpu.get()).max(0.0));
            }
            if let Some(threads) = field(17) {
                #[expect(clippy::cast_possible_truncation, reason = "a count")]
                self.threads.set(threads as i64);
            }
        }
        let dropped = super::log::dropped_lines() as u64;
        self.dropped_lines.inc_by(dropped.saturating_sub(self.dropped_lines.get()));
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            self.open_files.set(i64::try_from(files.count()).unwrap_or(i64::MAX));
        }
    }
}
