// Keeps a page as it is on the server: a stream of events says when something has happened, the page
// is then fetched again and its live parts are put in place of the old ones. What a person has typed,
// opened or focused stays. While the stream is broken, the page says so.

const main = document.querySelector("main[data-stream]");
const notice = document.getElementById("not-live");
const LEAST_BETWEEN_MS = 700;
const WHILE_BUSY_MS = 2000;
const LONGEST_WAIT_MS = 15000;

let source = null;
let failures = 0;
let isFetching = false;
let isWanted = false;
let fetchedAt = 0;
let knownAt = new Date();

function clock(instant) {
  return instant.toISOString().slice(11, 19);
}

function tell(isLive) {
  if (isLive) {
    notice.hidden = true;
    notice.textContent = "";
    return;
  }
  if (notice.hidden) {
    notice.textContent =
      `Not live: the connection to Furlough was lost. This page shows what was known at ` +
      `${clock(knownAt)} UTC; it is trying to come back by itself.`;
    notice.hidden = false;
  }
}

function keepOpen(old, fresh) {
  for (const one of fresh.querySelectorAll("details[id]")) {
    const before = document.getElementById(one.id);
    if (before && old.contains(before)) one.open = before.open;
  }
}

function replace(fresh) {
  const next = fresh.querySelector("main");
  if (next?.dataset.page !== main.dataset.page) {
    // What was waited for has come: the address shows another page now.
    location.reload();
    return;
  }
  for (const old of document.querySelectorAll("[data-live]")) {
    const found = fresh.getElementById(old.id);
    if (!found) {
      if (old.innerHTML !== "") old.replaceChildren();
      continue;
    }
    keepOpen(old, found);
    if (old.innerHTML === found.innerHTML) continue;
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const isTyping = focused && focused.matches("input, select, textarea");
    if (isTyping) continue;
    const scrolled = [...old.querySelectorAll("[id]")].map((one) => [one.id, one.scrollLeft]);
    const again = focused && (focused.id ? `#${CSS.escape(focused.id)}` : focused.getAttribute("href") && `[href="${CSS.escape(focused.getAttribute("href"))}"]`);
    old.replaceChildren(...found.childNodes);
    for (const [id, left] of scrolled) {
      const one = document.getElementById(id);
      if (one && left) one.scrollLeft = left;
    }
    if (again) old.querySelector(again)?.focus();
  }
  main.dataset.busy = next.dataset.busy;
  const stream = next.dataset.stream;
  if (stream !== main.dataset.stream) {
    main.dataset.stream = stream;
    connect();
  }
}

async function refresh() {
  if (isFetching) {
    isWanted = true;
    return;
  }
  isFetching = true;
  isWanted = false;
  await new Promise((done) => setTimeout(done, Math.max(0, fetchedAt + LEAST_BETWEEN_MS - Date.now())));
  fetchedAt = Date.now();
  try {
    const answer = await fetch(location.href, { headers: { "X-Furlough-Live": "1" }, cache: "no-store" });
    if (answer.status === 401) {
      location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
      return;
    }
    if (answer.ok) {
      replace(new DOMParser().parseFromString(await answer.text(), "text/html"));
      knownAt = new Date();
    }
  } catch {
    tell(false);
  } finally {
    isFetching = false;
    if (isWanted) refresh();
  }
}

function disconnect() {
  source?.close();
  source = null;
}

// EventSource comes back by itself, with the id of the last event; where it gives up, we begin again
// after a while, and the page that is fetched then has everything.
function connect() {
  disconnect();
  if (!main.dataset.stream) {
    tell(true);
    return;
  }
  source = new EventSource(main.dataset.stream);
  source.onopen = () => {
    failures = 0;
    tell(true);
    refresh();
  };
  source.addEventListener("entry", refresh);
  source.addEventListener("gap", refresh);
  source.addEventListener("operation", (event) => {
    const state = JSON.parse(event.data).state;
    if (["succeeded", "failed", "cancelled"].includes(state)) disconnect();
    refresh();
  });
  source.onerror = () => {
    tell(false);
    if (source?.readyState === EventSource.CLOSED) {
      failures += 1;
      disconnect();
      setTimeout(connect, Math.min(LONGEST_WAIT_MS, 500 * 2 ** failures));
    }
  };
}

if (main) {
  connect();
  setInterval(() => {
    if (main.dataset.busy && source && !document.hidden) refresh();
  }, WHILE_BUSY_MS);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && main.dataset.stream) refresh();
  });
}

// A button that was pressed is not pressed twice.
document.addEventListener("submit", (event) => {
  if (event.target.method === "get") return;
  for (const button of event.target.querySelectorAll("button:not([name])")) {
    setTimeout(() => { button.disabled = true; }, 0);
  }
});

// Choices that take effect at once, where script runs.
document.addEventListener("change", (event) => {
  if (event.target.closest("[data-at-once]")) event.target.form.requestSubmit();
});
