//! One machine for Python: turns calls into operations of the `sandbox` crate.
//!
//! Owns nothing but the machine's life in this process; what a machine is, is `sandbox`'s business.

use crate::{
    background,
    desktop::Desktop,
    errors, files, host,
    operation::{Channel, Operation, Value},
    owned::Owned,
    sessions::{Input, Session},
    text::{Name, Text},
};
use bytes::Bytes;
use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict},
};
use sandbox::fork::PerProcess;
use sandbox::{
    DownloadOptions, Error, ExecuteRequest, Forward, Mount, Pty, Sandbox, SandboxConfig,
    save::SaveOptions,
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    ops::ControlFlow,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock, Weak},
    time::Duration,
};

/// Machines of this process that may run, for the end of the interpreter.
static LIVE: PerProcess<Vec<Weak<Sandbox>>> = PerProcess::new();

/// What a call about checkpoints is named by in errors.
const CHECKPOINTS: &str = "use checkpoints";

const GO_ON: ControlFlow<()> = ControlFlow::Continue(());

/// Where the progress of the start that is under way goes.
type Listener = Arc<RwLock<Weak<Channel>>>;

/// One machine and its life.
#[pyclass(frozen, module = "quicksand._native")]
pub struct Machine {
    owned: Arc<Owned>,
    listener: Listener,
}

#[pymethods]
impl Machine {
    #[new]
    fn new(config: &str, search: &str) -> PyResult<Self> {
        let config = SandboxConfig::from_json(config).map_err(|error| errors::raise(&error))?;
        let listener = Listener::default();
        let listens = listener.clone();
        let sandbox = Sandbox::new(config).with_locator(host::search(search)?).on_progress(
            move |stage, current, total| {
                let channel = listens.read().unwrap_or_else(PoisonError::into_inner).upgrade();
                if let Some(channel) = channel {
                    channel.progress(stage, current, total);
                }
            },
        );
        Ok(Self::from_sandbox(sandbox, listener))
    }

    #[getter]
    fn is_running(&self) -> bool {
        self.owned.is_ours() && self.sandbox().is_running()
    }

    #[getter]
    fn accelerator(&self) -> Option<&'static str> {
        self.sandbox().accelerator().map(|accelerator| accelerator.name())
    }

    #[getter]
    fn boot_timeout(&self) -> f64 {
        self.sandbox().boot_timeout().as_secs_f64()
    }

    #[getter]
    fn vnc_port(&self) -> Option<u16> {
        self.sandbox().vnc_port()
    }

    #[getter]
    fn vnc_password(&self) -> Option<String> {
        self.sandbox().vnc_password()
    }

    #[getter]
    fn qemu_command(&self) -> PyResult<Vec<String>> {
        self.sandbox().qemu_command().map_err(|error| errors::raise(&error))
    }

    #[getter]
    fn boot_timing<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(timing) = self.sandbox().boot_timing() else { return Ok(None) };
        let marks = PyDict::new(py);
        for (name, seconds) in &timing.guest_marks {
            marks.set_item(name, seconds)?;
        }
        let fields = PyDict::new(py);
        for (name, duration) in [
            ("locate", timing.locate),
            ("prepare", timing.prepare),
            ("launch", timing.launch),
            ("boot", timing.boot),
            ("mount", timing.mount),
            ("total", timing.total),
        ] {
            fields.set_item(name, duration.as_secs_f64())?;
        }
        fields.set_item("guest_marks", marks)?;
        fields.set_item("warm", timing.warm)?;
        fields.set_item("cold_reason", timing.cold_reason)?;
        fields.set_item("forked", timing.forked)?;
        Ok(Some(fields))
    }

    fn start(&self, wake: Py<PyAny>) -> PyResult<Operation> {
        let listener = self.listener.clone();
        self.owned.report(
            wake,
            "start",
            |sandbox, channel| async move {
                *listener.write().unwrap_or_else(PoisonError::into_inner) =
                    Arc::downgrade(&channel);
                sandbox.start().await.map(|()| Value::Nothing)
            },
            // Dropping the start has ended QEMU already; this waits until it is gone.
            |sandbox| async move { drop(sandbox.stop().await) },
        )
    }

    fn stop(&self, wake: Py<PyAny>) -> PyResult<Operation> {
        self.owned.operate(wake, "stop", |sandbox| async move {
            sandbox.stop().await.map(|()| Value::Nothing)
        })
    }

    #[getter]
    fn desktop(&self) -> Desktop {
        Desktop::new(Arc::clone(&self.owned))
    }

    #[pyo3(signature = (wake, name, *, workspace, compress, memory, delete_checkpoints))]
    fn save(
        &self,
        wake: Py<PyAny>,
        name: Name,
        workspace: Option<PathBuf>,
        compress: bool,
        memory: bool,
        delete_checkpoints: bool,
    ) -> PyResult<Operation> {
        let options = SaveOptions { workspace, compress, memory, delete_checkpoints };
        self.owned.operate(wake, "save", |sandbox| async move {
            sandbox.save(&name.0, &options).await.map(|manifest| Value::Text(manifest.to_json()))
        })
    }

    /// Keeps the running machine under a name; one of its own choice without a name.
    fn checkpoint(&self, wake: Py<PyAny>, tag: Option<Name>) -> PyResult<Operation> {
        let tag = tag.map(|tag| tag.0).unwrap_or_default();
        self.owned.operate(wake, CHECKPOINTS, |sandbox| async move {
            sandbox.checkpoint(&tag).await.map(Value::Checkpoint)
        })
    }

    /// Takes the machine back to a checkpoint.
    fn revert(&self, wake: Py<PyAny>, tag: Name) -> PyResult<Operation> {
        self.owned.operate(wake, CHECKPOINTS, |sandbox| async move {
            sandbox.revert(&tag.0).await.map(|()| Value::Nothing)
        })
    }

    /// The checkpoints of the running machine.
    fn checkpoints(&self, wake: Py<PyAny>) -> PyResult<Operation> {
        self.owned.operate(wake, CHECKPOINTS, |sandbox| async move {
            sandbox.checkpoints().await.map(Value::Checkpoints)
        })
    }

    /// Deletes a checkpoint.
    fn delete_checkpoint(&self, wake: Py<PyAny>, tag: Name) -> PyResult<Operation> {
        self.owned.operate(wake, CHECKPOINTS, |sandbox| async move {
            sandbox.delete_checkpoint(&tag.0).await.map(|()| Value::Nothing)
        })
    }

    /// Starts machines that go on from this one.
    fn fork(&self, wake: Py<PyAny>, n: NonZeroUsize) -> PyResult<Operation> {
        self.owned.operate(wake, "fork", move |sandbox| async move {
            let children = sandbox.fork(n).await?.into_iter();
            let children: Vec<_> =
                children.map(|child| Self::from_sandbox(child, Listener::default())).collect();
            Ok(Value::object(children))
        })
    }

    fn metrics(&self, wake: Py<PyAny>) -> PyResult<Operation> {
        self.owned.operate(wake, "measure", |sandbox| async move {
            sandbox.metrics().await.map(Value::Metrics)
        })
    }

    #[pyo3(signature = (wake, command, *, timeout, cwd, shell, exclusive, user, stdin, input, env, max_output, streaming))]
    #[expect(clippy::too_many_arguments, reason = "the options of execute() in the Python API")]
    fn execute(
        &self,
        wake: Py<PyAny>,
        command: Text,
        timeout: Option<f64>,
        cwd: Option<Text>,
        shell: Text,
        exclusive: bool,
        user: Option<Name>,
        stdin: Option<Bound<'_, PyBytes>>,
        input: Option<Bound<'_, Input>>,
        env: Option<BTreeMap<Name, Text>>,
        max_output: Option<usize>,
        streaming: bool,
    ) -> PyResult<Operation> {
        let mut request = ExecuteRequest::new(command.0).shell(shell.0).exclusive(exclusive);
        request.timeout = limit(timeout);
        request.cwd = cwd.map(|cwd| cwd.0.into());
        request.user = user.map(|user| user.0);
        request.env = variables(env);
        if let Some(stdin) = stdin {
            request.stdin = Bytes::copy_from_slice(stdin.as_bytes());
        }
        if let Some(max_output) = max_output {
            request.max_output = max_output;
        }
        let input = input.and_then(|input| input.get().take());
        self.owned.report(
            wake,
            "execute",
            move |sandbox, channel| async move {
                let sink = move |stream, data| {
                    let channel = channel.clone();
                    async move { if streaming { channel.output(stream, data).await } else { GO_ON } }
                };
                let result = match input {
                    Some(input) => sandbox.stream_with_input(request, input, sink).await,
                    None => sandbox.stream(request, sink).await,
                };
                result.map(Value::Command)
            },
            |_| async {},
        )
    }

    /// Begins a command with a terminal.
    #[pyo3(signature = (wake, command, *, rows, cols, term, cwd, user, env, timeout))]
    #[expect(clippy::too_many_arguments, reason = "the options of shell() in the Python API")]
    fn shell(
        &self,
        wake: Py<PyAny>,
        command: Text,
        rows: u16,
        cols: u16,
        term: Name,
        cwd: Option<Text>,
        user: Option<Name>,
        env: Option<BTreeMap<Name, Text>>,
        timeout: Option<f64>,
    ) -> PyResult<Operation> {
        let mut request = ExecuteRequest::new(command.0);
        request.timeout = limit(timeout);
        request.cwd = cwd.map(|cwd| cwd.0.into());
        request.user = user.map(|user| user.0);
        request.env = variables(env);
        let pty = Pty { rows, cols, term: term.0 };
        self.owned.operate(wake, "open a shell", move |sandbox| async move {
            let (input, output) = sandbox.session(request, Some(pty)).await?;
            Ok(Value::object(Session::new(input, output)))
        })
    }

    fn create_user(&self, wake: Py<PyAny>, name: Name) -> PyResult<Operation> {
        self.owned.operate(wake, "create a user", move |sandbox| async move {
            let user = sandbox.create_user(&name.0).await?;
            Ok(Value::Json(json!({
                "name": user.name, "uid": user.uid, "gid": user.gid, "home": user.home,
            })))
        })
    }

    fn delete_user(&self, wake: Py<PyAny>, name: Name, remove_home: bool) -> PyResult<Operation> {
        self.owned.operate(wake, "delete a user", move |sandbox| async move {
            sandbox.delete_user(&name.0, remove_home).await.map(|()| Value::Nothing)
        })
    }

    #[getter]
    fn active_mounts(&self) -> String {
        let handles = self.sandbox().active_mounts();
        handles.iter().map(files::handle_value).collect::<serde_json::Value>().to_string()
    }

    fn read_file(&self, wake: Py<PyAny>, path: Text, max_bytes: u64) -> PyResult<Operation> {
        self.owned.operate(wake, "read a file", move |sandbox| async move {
            sandbox.read_file(&path, max_bytes).await.map(Value::Bytes)
        })
    }

    fn write_file(
        &self,
        wake: Py<PyAny>,
        path: Text,
        data: &Bound<'_, PyBytes>,
        mode: Option<u32>,
    ) -> PyResult<Operation> {
        let data = Bytes::copy_from_slice(data.as_bytes());
        self.owned.operate(wake, "write a file", move |sandbox| async move {
            sandbox.write_file(&path, data, mode).await.map(|()| Value::Nothing)
        })
    }

    fn upload(&self, wake: Py<PyAny>, host: PathBuf, guest: Text) -> PyResult<Operation> {
        self.owned.operate(wake, "upload", move |sandbox| async move {
            sandbox.upload(host, &guest).await.map(files::transfer_value)
        })
    }

    #[pyo3(signature = (wake, guest, host, *, tree, overwrite, max_bytes, max_entries))]
    #[expect(clippy::too_many_arguments, reason = "the options of download() in the Python API")]
    fn download(
        &self,
        wake: Py<PyAny>,
        guest: Text,
        host: PathBuf,
        tree: Option<bool>,
        overwrite: bool,
        max_bytes: Option<u64>,
        max_entries: Option<u64>,
    ) -> PyResult<Operation> {
        let no_limit = u64::MAX;
        let options = DownloadOptions {
            tree,
            overwrite,
            max_bytes: max_bytes.unwrap_or(no_limit),
            max_entries: max_entries.unwrap_or(no_limit),
        };
        self.owned.report(
            wake,
            "download",
            |sandbox, _| async move {
                sandbox.download(&guest, host, options).await.map(files::transfer_value)
            },
            // Whoever waits for the end of a cancelled download finds nothing of it.
            |sandbox| async move { sandbox.tidied().await },
        )
    }

    /// `mount` is the JSON form of a `Mount`.
    fn mount(&self, wake: Py<PyAny>, mount: &str) -> PyResult<Operation> {
        let mount: Mount = serde_json::from_str(mount)
            .map_err(|error| errors::invalid("mount", mount, &error.to_string()))?;
        self.owned.operate(wake, "mount", move |sandbox| async move {
            let handle = sandbox.mount(mount).await?;
            Ok(Value::Json(files::handle_value(&handle)))
        })
    }

    fn unmount(&self, wake: Py<PyAny>, id: u64, force: bool) -> PyResult<Operation> {
        self.owned.operate(wake, "unmount", move |sandbox| async move {
            let handle = sandbox.active_mounts().into_iter().find(|handle| handle.id() == id);
            let handle = handle.ok_or_else(|| Error::Mount {
                action: "unmount",
                share: id.to_string(),
                reason: "it is not mounted".into(),
                hint: Some("active_mounts lists what is mounted now".into()),
            })?;
            sandbox.unmount(&handle, force).await.map(|()| Value::Nothing)
        })
    }

    /// The JSON forms of the forwards.
    fn forwards(&self, wake: Py<PyAny>) -> PyResult<Operation> {
        self.owned.operate(wake, "list forwards", |sandbox| async move {
            let forwards = sandbox.forwards().await;
            Ok(Value::Json(forwards.iter().map(Forward::to_value).collect()))
        })
    }

    /// `forward` is the JSON form of a forward.
    fn add_forward(&self, wake: Py<PyAny>, forward: &str) -> PyResult<Operation> {
        let forward = files::forward_of(forward)?;
        self.owned.operate(wake, "forward a port", move |sandbox| async move {
            let added = sandbox.add_forward(forward).await?;
            Ok(Value::Json(added.to_value()))
        })
    }

    fn remove_forward(&self, wake: Py<PyAny>, forward: &str) -> PyResult<Operation> {
        let forward = files::forward_of(forward)?;
        self.owned.operate(wake, "remove a forward", move |sandbox| async move {
            sandbox.remove_forward(&forward).await.map(|()| Value::Nothing)
        })
    }

    fn set_allow(&self, wake: Py<PyAny>, allow: Option<Vec<String>>) -> PyResult<Operation> {
        self.owned.operate(wake, "change the allow-list", move |sandbox| async move {
            sandbox.set_allow(allow).await.map(|()| Value::Nothing)
        })
    }
}

impl Machine {
    fn from_sandbox(sandbox: Sandbox, listener: Listener) -> Self {
        let sandbox = Arc::new(sandbox);
        let mut live = LIVE.get().lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|known| known.strong_count() > 0);
        live.push(Arc::downgrade(&sandbox));
        Self { owned: Arc::new(Owned::new(sandbox)), listener }
    }

    fn sandbox(&self) -> &Sandbox {
        self.owned.sandbox()
    }
}

/// The variables of a command.
fn variables(env: Option<BTreeMap<Name, Text>>) -> BTreeMap<String, sandbox::GuestText> {
    env.unwrap_or_default().into_iter().map(|(name, value)| (name.0, value.0.into())).collect()
}

/// Seconds as a duration; what no clock can count to is no limit.
fn limit(seconds: Option<f64>) -> Option<Duration> {
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

/// Ends every machine of this process that still runs: called when the interpreter ends.
#[pyfunction]
pub fn shutdown(py: Python<'_>) -> PyResult<()> {
    let live: Vec<Arc<Sandbox>> = LIVE
        .get()
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .drain(..)
        .filter_map(|sandbox| sandbox.upgrade())
        .collect();
    py.detach(|| {
        let is_needed = live.iter().any(|sandbox| sandbox.is_running());
        let stopped = if is_needed { background::wait_for(stop_all(live)) } else { Ok(()) };
        background::end_waker();
        stopped
    })
}

async fn stop_all(live: Vec<Arc<Sandbox>>) {
    for sandbox in live {
        let _ = sandbox.stop().await;
    }
}
