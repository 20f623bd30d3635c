// libvirt's qemu hook: hands a guest's start and stop to the Foreshade service on this host and obeys its answer.
//
//   50-foreshade GUEST OPERATION SUB-OPERATION EXTRA < the domain's XML
//
// libvirt waits for it with the guest's lock held, so it calls nothing but the service's unix socket and is over by a deadline,
// whatever it meets. It goes on (exit 0, nothing on stdout) unless the service says no in `prepare`: in `started` and `reconnect`
// any other exit would kill a guest. A guest whose XML does not name our namespace is none of its business.
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <initializer_list>
#include <poll.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

namespace {

/** Longest XML passed on, bytes. A domain has 5 to 40 KiB. */
constexpr size_t kXmlMax = 1024 * 1024;
/** Longest request: what the service takes in one message. */
constexpr size_t kRequestMax = 4 * 1024 * 1024;
/** Longest answer: a verdict with its reason takes less than 4 KiB. */
constexpr size_t kAnswerMax = 64 * 1024;
/** Longest reason repeated: it ends up in one line of virsh's error. */
constexpr size_t kReasonMax = 512;
/** Longest configuration: four lines. */
constexpr size_t kSettingsMax = 4 * 1024;
/** Longest that the configuration may have libvirt wait, ms: its own calls give up after 30 s. */
constexpr long kWaitMax = 30 * 1000;
/** What the program may take beyond its deadline, ms, before it is cut off: time to say why. */
constexpr long kGrace = 25;
/** Pause between attempts to connect while the service's queue of connections is full, ms. */
constexpr int kConnectPause = 2;

/** Where the metadata that asks for something says so. */
constexpr char kNamespace[] = "urn:foreshade:request:1";
constexpr char kPath[] = "/foreshade.v1.HookService/Report";

struct Settings {
  char socket[sizeof(sockaddr_un::sun_path)] = "/run/foreshade/foreshade.http.sock";
  /** Whole time of the program, ms. */
  long deadline = 200;
  /** Without an answer in `prepare`, a guest that asks for something does not start. */
  bool require = false;
  /** The deadline in `prepare` then, ms. */
  long requireWait = 2000;
};

char xml[kXmlMax + 1];
char request[kRequestMax];
char answer[kAnswerMax + 1];
/** How the program ends when it is cut off. */
volatile sig_atomic_t exitWhenCut = 0;
long long deadlineAt = 0;

long long nowMs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

int remainingMs() {
  const long long left = deadlineAt - nowMs();
  return left > 0 ? static_cast<int>(left) : 0;
}

void onCut(int) {
  static const char text[] = "foreshade: the hook was cut off\n";
  if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(exitWhenCut);
  _exit(exitWhenCut);
}

/** Nothing that goes wrong here may end a guest: whatever ends the program ends it as its deadline would. */
void armFor(long ms) {
  for (const int signal : {SIGALRM, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTERM, SIGHUP, SIGINT}) {
    struct sigaction action{};
    action.sa_handler = onCut;
    sigaction(signal, &action, nullptr);
  }
  signal(SIGPIPE, SIG_IGN);
  itimerval timer{};
  timer.it_value.tv_sec = ms / 1000;
  timer.it_value.tv_usec = (ms % 1000) * 1000;
  setitimer(ITIMER_REAL, &timer, nullptr);
}

/** One line to stderr, which libvirt shows when the start fails, and to the system's log, where it drops stderr. */
__attribute__((format(printf, 1, 2))) void say(const char* format, ...) {
  char line[kReasonMax + 256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  dprintf(STDERR_FILENO, "foreshade: %s\n", line);
  openlog("foreshade-hook", LOG_PID, LOG_DAEMON);
  syslog(LOG_WARNING, "%s", line);
}

bool isBlank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

/** A whole number of [1, kWaitMax] ms, or the fallback. */
long millis(const char* text, long fallback) {
  char* end = nullptr;
  errno = 0;
  const long value = strtol(text, &end, 10);
  return errno == 0 && end != text && *end == '\0' && value >= 1 && value <= kWaitMax ? value : fallback;
}

void set(Settings& settings, const char* key, const char* value) {
  if (strcmp(key, "socket") == 0 && value[0] == '/' && strlen(value) < sizeof settings.socket)
    strcpy(settings.socket, value);
  else if (strcmp(key, "deadline_ms") == 0)
    settings.deadline = millis(value, settings.deadline);
  else if (strcmp(key, "require_wait_ms") == 0)
    settings.requireWait = millis(value, settings.requireWait);
  else if (strcmp(key, "policy") == 0)
    settings.require = strcmp(value, "require") == 0;
}

/** `foreshade.conf` beside the folder that holds this program; what is missing or wrong in it stays at its default. */
Settings readSettings() {
  Settings settings;
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path - sizeof "/foreshade.conf");
  if (length <= 0) return settings;
  path[length] = '\0';
  for (int up = 0; up < 2; ++up) {
    char* slash = strrchr(path, '/');
    if (slash == nullptr) return settings;
    *slash = '\0';
  }
  strcat(path, "/foreshade.conf");
  const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return settings;
  char text[kSettingsMax + 1];
  const ssize_t got = read(file, text, kSettingsMax);
  close(file);
  text[got > 0 ? got : 0] = '\0';
  char* rest = nullptr;
  for (char* line = strtok_r(text, "\n", &rest); line != nullptr; line = strtok_r(nullptr, "\n", &rest)) {
    while (isBlank(*line)) ++line;
    char* equals = strchr(line, '=');
    if (*line == '#' || equals == nullptr) continue;
    char* value = equals + 1;
    while (equals > line && isBlank(equals[-1])) --equals;
    *equals = '\0';
    while (isBlank(*value)) ++value;
    size_t end = strlen(value);
    while (end > 0 && isBlank(value[end - 1])) --end;
    value[end] = '\0';
    set(settings, line, value);
  }
  return settings;
}

/** Wait for an event on a descriptor; false when the deadline passes first. */
bool ready(int descriptor, short events) {
  for (;;) {
    pollfd one{descriptor, events, 0};
    const int count = poll(&one, 1, remainingMs());
    if (count > 0) return true;
    if (count == 0 || errno != EINTR) return false;
  }
}

/** Read the domain's XML. @returns why not, or nullptr; what was read stands in `xml` in any case */
const char* readXml(size_t& length) {
  length = 0;
  for (;;) {
    if (!ready(STDIN_FILENO, POLLIN)) return "libvirt did not hand over the guest's XML in time";
    const ssize_t got = read(STDIN_FILENO, xml + length, kXmlMax - length);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0) return "the guest's XML cannot be read";
    if (got == 0) return nullptr;
    length += static_cast<size_t>(got);
    if (length == kXmlMax) return "the guest's XML is longer than 1 MiB";
  }
}

/** Text that grows in a buffer and knows when it did not fit. */
class Buffer {
 public:
  Buffer(char* start, size_t size) : start_(start), size_(size) {}
  void put(const char* text, size_t length) {
    if (length > size_ - used_) overflown_ = true;
    if (overflown_) return;
    memcpy(start_ + used_, text, length);
    used_ += length;
  }
  void put(const char* text) { put(text, strlen(text)); }
  /** As a JSON string. */
  void putQuoted(const char* text, size_t length) {
    put("\"", 1);
    for (size_t i = 0; i < length && !overflown_; ++i) {
      const auto c = static_cast<unsigned char>(text[i]);
      char escaped[8];
      if (c == '"' || c == '\\') {
        const char pair[2] = {'\\', text[i]};
        put(pair, 2);
      } else if (c < 0x20) {
        put(escaped, static_cast<size_t>(snprintf(escaped, sizeof escaped, "\\u%04x", c)));
      } else {
        put(text + i, 1);
      }
    }
    put("\"", 1);
  }
  size_t used() const { return used_; }
  bool overflown() const { return overflown_; }

 private:
  char* start_;
  size_t size_;
  size_t used_ = 0;
  bool overflown_ = false;
};

/** Room kept before the body for the head, which names the body's length. */
constexpr size_t kHeadMax = 512;

/** The whole HTTP request, its start and length. @returns false when it is longer than the service takes */
bool buildRequest(char** arguments, int count, size_t xmlLength, const char*& start, size_t& length) {
  Buffer body(request + kHeadMax, sizeof request - kHeadMax);
  static const char* const names[] = {"guest", "operation", "sub_operation", "extra"};
  body.put("{");
  for (int i = 0; i < 4 && i + 1 < count; ++i) {
    body.putQuoted(names[i], strlen(names[i]));
    body.put(":");
    body.putQuoted(arguments[i + 1], strlen(arguments[i + 1]));
    body.put(",");
  }
  body.put("\"definition\":");
  body.putQuoted(xml, xmlLength);
  body.put("}");
  if (body.overflown()) return false;
  char head[kHeadMax];
  const int headLength = snprintf(head, sizeof head,
      "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
      "grpc-timeout: %dm\r\nConnection: close\r\n\r\n", kPath, body.used(), remainingMs());
  if (headLength <= 0 || static_cast<size_t>(headLength) >= sizeof head) return false;
  char* at = request + kHeadMax - headLength;
  memcpy(at, head, static_cast<size_t>(headLength));
  start = at;
  length = static_cast<size_t>(headLength) + body.used();
  return true;
}

/** @returns a connected descriptor, or -1 with errno */
int connectTo(const char* path) {
  const int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return -1;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  strcpy(address.sun_path, path);
  while (connect(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    if (errno != EAGAIN && errno != EINTR) return -1;
    if (remainingMs() == 0) {
      errno = ETIMEDOUT;
      return -1;
    }
    poll(nullptr, 0, kConnectPause); // a unix socket whose queue is full cannot be waited for
  }
  return descriptor;
}

/** Send everything; false when the peer hung up or the deadline passed. */
bool sendAll(int descriptor, const char* text, size_t length) {
  while (length > 0) {
    if (!ready(descriptor, POLLOUT)) return false;
    const ssize_t sent = send(descriptor, text, length, MSG_NOSIGNAL);
    if (sent < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (sent <= 0) return false;
    text += sent;
    length -= static_cast<size_t>(sent);
  }
  return true;
}

/** Where an answer's body starts and how long it is said to be; nullptr while the head is not whole, or no head. */
char* bodyOf(size_t& length) {
  char* end = strstr(answer, "\r\n\r\n");
  if (end == nullptr) return nullptr;
  for (char* line = strstr(answer, "\r\n"); line != nullptr && line < end; line = strstr(line + 2, "\r\n")) {
    if (strncasecmp(line + 2, "content-length:", 15) != 0) continue;
    char* rest = nullptr;
    const unsigned long value = strtoul(line + 17, &rest, 10);
    if (rest == line + 17 || *rest != '\r' || value > kAnswerMax) return nullptr;
    length = value;
    return end + 4;
  }
  return nullptr;
}

/** Read the answer until it is whole. @returns its body, or nullptr with `why` */
char* readAnswer(int descriptor, const char*& why) {
  size_t used = 0;
  for (;;) {
    size_t length = 0;
    answer[used] = '\0';
    char* body = bodyOf(length);
    if (body != nullptr && used - static_cast<size_t>(body - answer) >= length) {
      body[length] = '\0';
      if (strncmp(answer, "HTTP/1.1 200 ", 13) == 0) return body;
      why = strncmp(answer, "HTTP/1.1 504 ", 13) == 0 ? "the service did not answer in time" : "the service refused the call";
      return nullptr;
    }
    if (used == kAnswerMax) break;
    if (!ready(descriptor, POLLIN)) {
      why = "the service did not answer in time";
      return nullptr;
    }
    const ssize_t got = recv(descriptor, answer + used, kAnswerMax - used, 0);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got <= 0) {
      why = "the service hung up";
      return nullptr;
    }
    used += static_cast<size_t>(got);
  }
  why = "the service's answer is too long";
  return nullptr;
}

/** Reads one flat JSON object whose values are strings; anything else is refused. */
class FlatJson {
 public:
  explicit FlatJson(const char* text) : at_(text) {}

  /** @returns false when the text is not such an object */
  bool read(char* verdict, size_t verdictSize, char* reason, size_t reasonSize) {
    if (!take('{')) return false;
    if (take('}')) return atEnd();
    do {
      char key[32];
      if (!string(key, sizeof key) || !take(':')) return false;
      char ignored[1];
      const bool isVerdict = strcmp(key, "verdict") == 0;
      const bool isReason = strcmp(key, "reason") == 0;
      if (isVerdict ? !string(verdict, verdictSize) : isReason ? !string(reason, reasonSize) : !string(ignored, 1))
        return false;
    } while (take(','));
    return take('}') && atEnd();
  }

 private:
  void skipSpace() {
    while (*at_ == ' ' || *at_ == '\t' || *at_ == '\r' || *at_ == '\n') ++at_;
  }
  bool take(char c) {
    skipSpace();
    if (*at_ != c) return false;
    ++at_;
    return true;
  }
  bool atEnd() {
    skipSpace();
    return *at_ == '\0';
  }
  /** The string's beginning, as much as fits, in one line of printable characters. */
  bool string(char* out, size_t size) {
    if (!take('"')) return false;
    size_t used = 0;
    while (*at_ != '"') {
      unsigned char c = static_cast<unsigned char>(*at_);
      if (c < 0x20) return false; // the end of the text included
      if (c == '\\' && !escape(c)) return false;
      ++at_;
      if (used + 1 < size) out[used++] = static_cast<char>(c < 0x20 || c == 0x7f ? ' ' : c);
    }
    ++at_;
    out[used] = '\0';
    return true;
  }
  /** Leaves `at_` on the last character of the escape. */
  bool escape(unsigned char& c) {
    ++at_;
    switch (*at_) {
      case '"': case '\\': case '/': c = static_cast<unsigned char>(*at_); return true;
      case 'b': case 'f': case 'n': case 'r': case 't': c = ' '; return true;
      case 'u': break;
      default: return false;
    }
    unsigned value = 0;
    for (int i = 0; i < 4; ++i) {
      ++at_;
      const char digit = *at_;
      const int lower = digit | 0x20;
      if (digit >= '0' && digit <= '9') value = value * 16 + static_cast<unsigned>(digit - '0');
      else if (lower >= 'a' && lower <= 'f') value = value * 16 + static_cast<unsigned>(lower - 'a' + 10);
      else return false;
    }
    c = value >= 0x20 && value < 0x7f ? static_cast<unsigned char>(value) : '?';
    return true;
  }

  const char* at_;
};

enum class Verdict { kAllow, kVeto, kNone };

/** Ask the service. @returns kNone with `why` when there is no answer that can be relied on */
Verdict ask(const Settings& settings, char** arguments, int count, size_t xmlLength, char* reason, const char*& why) {
  const int descriptor = connectTo(settings.socket);
  if (descriptor < 0) {
    why = errno == ETIMEDOUT ? "the service takes no connection" : "the service cannot be reached";
    return Verdict::kNone;
  }
  const char* start = nullptr;
  size_t length = 0;
  if (!buildRequest(arguments, count, xmlLength, start, length)) {
    why = "the guest's XML is too long for the service";
    return Verdict::kNone;
  }
  if (!sendAll(descriptor, start, length) && remainingMs() == 0) {
    why = "the service did not take the call in time";
    return Verdict::kNone;
  }
  const char* body = readAnswer(descriptor, why);
  if (body == nullptr) return Verdict::kNone;
  char verdict[32] = "";
  if (FlatJson(body).read(verdict, sizeof verdict, reason, kReasonMax)) {
    if (strcmp(verdict, "VERDICT_ALLOW") == 0) return Verdict::kAllow;
    if (strcmp(verdict, "VERDICT_VETO") == 0) return Verdict::kVeto;
  }
  why = "the service's answer makes no sense";
  return Verdict::kNone;
}

bool isOneOf(const char* word, std::initializer_list<const char*> words) {
  for (const char* candidate : words)
    if (strcmp(word, candidate) == 0) return true;
  return false;
}

} // namespace

int main(int count, char** arguments) {
  const long long startedAt = nowMs();
  const char* operation = count > 2 ? arguments[2] : "";
  // Others ask for nothing here; `migrate` and `restore` would take what stands on stdout for the guest's new XML.
  if (!isOneOf(operation, {"prepare", "started", "stopped", "release"})) return 0;
  armFor(Settings{}.deadline + kGrace);
  const bool isPrepare = strcmp(operation, "prepare") == 0;
  const Settings settings = readSettings();
  const bool isRequired = isPrepare && settings.require;
  const long deadline = isRequired ? settings.requireWait : settings.deadline;
  deadlineAt = startedAt + deadline;
  armFor(deadline + kGrace);

  size_t xmlLength = 0;
  const char* why = readXml(xmlLength);
  if (memmem(xml, xmlLength, kNamespace, sizeof kNamespace - 1) == nullptr) {
    if (why != nullptr) say("%s at %s: %s", arguments[1], operation, why);
    return 0;
  }
  exitWhenCut = isRequired ? 1 : 0;
  char reason[kReasonMax] = "";
  const Verdict verdict =
      why != nullptr ? Verdict::kNone : ask(settings, arguments, count, xmlLength, reason, why);
  if (verdict == Verdict::kAllow) return 0;
  if (verdict == Verdict::kVeto && isPrepare) {
    exitWhenCut = 1;
    say("%s may not start: %s", arguments[1], reason);
    return 1;
  }
  if (verdict == Verdict::kVeto) why = "the service says no where it has no say";
  say("%s at %s: %s; %s", arguments[1], operation, why,
      isRequired ? "the hook is configured to require its answer" : "the guest goes on without");
  return isRequired ? 1 : 0;
}
