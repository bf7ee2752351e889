// The landing page: says times as the reader's clock has them, relative and exact.
const language = document.documentElement.lang + "-GB";

for (const time of document.querySelectorAll("time")) {
  const then = new Date(time.dateTime);
  const minutes = Math.round((Date.now() - then) / 60000);
  const clock = then.toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit" });
  const day = then.toLocaleDateString(language, { day: "numeric", month: "long" });
  const today = then.toDateString() === new Date().toDateString();
  let ago = day;
  if (minutes < 1) ago = "just now";
  else if (minutes < 60) ago = minutes === 1 ? "1 minute ago" : `${minutes} minutes ago`;
  else if (today) ago = "today";
  time.textContent = `${ago}, ${clock}`;
  time.title = then.toLocaleString(language);
}
