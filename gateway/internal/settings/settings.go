// Package settings reads what the gateway is told: default < MURPHEY_GATEWAY_* environment < flag.
package settings

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

const environmentPrefix = "MURPHEY_GATEWAY_"

// slowRequest leaves room for a bad connection and none for one that is held open to be held open.
const slowRequest = 10 * time.Second

// Settings is everything that can be set. Nothing else is read from the environment.
type Settings struct {
	// Listen is the address of the one port, `host:port`; port 0 takes a free one.
	Listen string
	// Targets are the services behind, by short name: `host:port` or any gRPC target.
	Targets map[string]string
	// CORSOrigins are the web origins whose pages may call the gateway; none by default.
	CORSOrigins []string
	// AllowedHosts are names, beside loopback ones, that a request's Host may carry.
	AllowedHosts []string
	// MaxUploadBytes bounds one uploaded file with its form fields.
	MaxUploadBytes int64
	// MaxJSONBytes bounds any other request body.
	MaxJSONBytes int64
	// MaxRequests bounds the requests under way, of either protocol.
	MaxRequests int
	// TLS says which certificates are shown and believed.
	TLS TLS
	// Auth says whether the services behind ask who calls.
	Auth Auth
	// SlowRequest is how long the head of a request may take, and then each piece of its body.
	SlowRequest time.Duration
	// Drain is how long running calls may go on after a stop was asked for.
	Drain time.Duration
	// LogLevel is the least level that is logged.
	LogLevel slog.Level
	// Supervised: the end of standard input means that the supervisor is gone, and stops the gateway.
	Supervised bool
}

// Services are the short names of the services behind, each with its own flag, and where `murphey up` puts them.
var Services = []struct{ Name, Target string }{
	{"orchestrator", "127.0.0.1:7401"},
	{"ingest", "127.0.0.1:7404"},
	{"retriever", "127.0.0.1:7402"},
	{"generator", "127.0.0.1:7403"},
}

// Parse reads flags and environment. It returns flag.ErrHelp when help was asked for.
func Parse(arguments []string, getenv func(string) string) (Settings, error) {
	flags := flag.NewFlagSet("murphey-gateway", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:7400", "address to listen on; only loopback without TLS and auth, port 0 takes a free one")
	targets := map[string]*string{}
	for _, service := range Services {
		targets[service.Name] = flags.String(service.Name, service.Target, "target of the "+service.Name)
	}
	origins := flags.String("cors-origins", "", "web origins that may call, separated by commas; * for all; empty: none")
	hosts := flags.String("allowed-hosts", "", "names beside localhost that a request's Host may carry, separated by commas")
	maxUpload := flags.Int64("max-upload-bytes", 1<<30, "largest upload in bytes")
	maxJSON := flags.Int64("max-json-bytes", 4<<20, "largest other request body in bytes")
	maxRequests := flags.Int("max-requests", 2000, "requests under way at most; beyond it they are refused at once")
	certificate := flags.String("tls-certificate", "", "PEM file of the certificate chain for clients; read again when it changes")
	key := flags.String("tls-key", "", "PEM file of that certificate's key")
	servicesCA := flags.String("services-ca", "", "PEM file of the authority of the services' certificates; empty: they are called in plain")
	servicesCertificate := flags.String("services-certificate", "", "PEM file of the certificate shown to services that ask for one")
	servicesKey := flags.String("services-key", "", "PEM file of that certificate's key")
	auth := flags.String("auth", "off", "keys where the services behind ask for API keys or tokens, else off")
	drain := flags.Float64("drain-s", 10, "seconds that running calls get when the gateway stops")
	level := flags.String("log-level", "info", "debug, info, warning or error")

	if err := flags.Parse(arguments); err != nil {
		return Settings{}, err
	}
	if flags.NArg() > 0 {
		return Settings{}, fmt.Errorf("%q is not a flag; see --help", flags.Arg(0))
	}
	if err := fromEnvironment(flags, getenv); err != nil {
		return Settings{}, err
	}
	settings := Settings{
		Listen:         *listen,
		Targets:        map[string]string{},
		CORSOrigins:    list(*origins),
		AllowedHosts:   list(*hosts),
		MaxUploadBytes: *maxUpload,
		MaxJSONBytes:   *maxJSON,
		MaxRequests:    *maxRequests,
		TLS:            TLS{*certificate, *key, *servicesCA, *servicesCertificate, *servicesKey},
		Auth:           Auth(*auth),
		SlowRequest:    slowRequest,
		Drain:          time.Duration(*drain * float64(time.Second)),
		Supervised:     getenv("MURPHEY_SUPERVISED") == "1",
	}
	for name, target := range targets {
		settings.Targets[name] = *target
	}
	if err := settings.LogLevel.UnmarshalText([]byte(strings.TrimSuffix(strings.ToLower(*level), "ing"))); err != nil {
		return Settings{}, fmt.Errorf("--log-level: %q is none of debug, info, warning, error", *level)
	}
	return settings, settings.check()
}

// fromEnvironment sets the flags that were not given from MURPHEY_GATEWAY_<FLAG>.
func fromEnvironment(flags *flag.FlagSet, getenv func(string) string) error {
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var failures []error
	flags.VisitAll(func(f *flag.Flag) {
		name := environmentPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value := getenv(name)
		if value == "" || given[f.Name] {
			return
		}
		if err := f.Value.Set(value); err != nil {
			failures = append(failures, fmt.Errorf("%s: %q: %w", name, value, err))
		}
	})
	return errors.Join(failures...)
}

func (s Settings) check() error {
	if err := s.checkTLS(); err != nil {
		return err
	}
	for name, target := range s.Targets {
		if target == "" {
			return fmt.Errorf("--%s: the target is empty; write HOST:PORT", name)
		}
	}
	if s.MaxUploadBytes <= 0 || s.MaxJSONBytes <= 0 {
		return errors.New("--max-upload-bytes and --max-json-bytes must be greater than 0")
	}
	if s.MaxRequests <= 0 {
		return errors.New("--max-requests must be greater than 0")
	}
	if s.Drain < 0 {
		return errors.New("--drain-s must be 0 or greater")
	}
	for _, origin := range s.CORSOrigins {
		if origin != "*" && !isOrigin(origin) {
			return fmt.Errorf("--cors-origins: %q is not an origin; write SCHEME://HOST[:PORT], such as https://app.example, or *", origin)
		}
	}
	return nil
}

func isOrigin(text string) bool {
	parsed, err := url.Parse(text)
	return err == nil && parsed.Host != "" && text == parsed.Scheme+"://"+parsed.Host && !strings.Contains(text, "*")
}

// IsLoopback says whether only this machine can reach the host.
func IsLoopback(host string) bool {
	if address, err := netip.ParseAddr(host); err == nil {
		return address.Unmap().IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

func list(text string) []string {
	var values []string
	for value := range strings.SplitSeq(text, ",") {
		if value = strings.TrimSpace(value); value != "" {
			values = append(values, value)
		}
	}
	return values
}
