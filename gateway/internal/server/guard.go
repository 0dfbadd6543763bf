package server

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"murphey.dev/gateway/internal/settings"
)

// guarded keeps web pages out that were not invited. A port on loopback is within reach of every page that this machine's
// browser shows: by a plain form post, which needs no CORS, or by a name of the page's own that resolves to 127.0.0.1.
func guarded(settings settings.Settings, next http.Handler) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	for _, origin := range settings.CORSOrigins {
		if origin == "*" {
			return onlyKnownHosts(settings.AllowedHosts, next)
		}
		// Cannot fail: settings have checked the origins.
		_ = crossOrigin.AddTrustedOrigin(origin)
	}
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusForbidden, codes.PermissionDenied, fmt.Sprintf(
			"Pages of %s may not call this gateway; name the origin in --cors-origins to allow it.", r.Header.Get("Origin")))
	}))
	return onlyKnownHosts(settings.AllowedHosts, crossOrigin.Handler(next))
}

func onlyKnownHosts(allowed []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		host = strings.ToLower(strings.Trim(host, "[]"))
		if host != "" && !settings.IsLoopback(host) && !slices.Contains(allowed, host) {
			refuse(w, http.StatusMisdirectedRequest, codes.PermissionDenied, fmt.Sprintf(
				"This gateway does not answer for the host %q; name it in --allowed-hosts to allow it.", host))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuse writes what rest's errors look like, before a request gets there.
func refuse(w http.ResponseWriter, httpStatus int, code codes.Code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(httpStatus)
	_ = json.NewEncoder(w).Encode(map[string]any{"code": code, "message": message, "details": []any{}})
}

// logged writes one line a request: never a query, a header or a body.
func logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, response := time.Now(), &counted{ResponseWriter: w, status: http.StatusOK}
		defer func() { // also when a handler aborts
			slog.Info("http_request", "method", r.Method, "path", r.URL.Path, "status", response.status,
				"bytes", response.bytes, "duration_ms", time.Since(start).Milliseconds())
		}()
		next.ServeHTTP(response, r)
	})
}

type counted struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (c *counted) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *counted) Write(data []byte) (int, error) {
	written, err := c.ResponseWriter.Write(data)
	c.bytes += int64(written)
	return written, err
}

// Unwrap lets http.ResponseController find Flush and deadlines.
func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }
