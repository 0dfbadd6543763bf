package settings

import (
	"log/slog"
	"strings"
	"testing"
)

func none(string) string { return "" }

func TestFlagsWinOverEnvironmentAndEnvironmentOverDefaults(t *testing.T) {
	environment := map[string]string{
		"MURPHEY_GATEWAY_LISTEN":           "127.0.0.1:1",
		"MURPHEY_GATEWAY_INGEST":           "ingest:1",
		"MURPHEY_GATEWAY_MAX_UPLOAD_BYTES": "5",
		"MURPHEY_GATEWAY_LOG_LEVEL":        "warning",
		"MURPHEY_SUPERVISED":               "1",
	}
	settings, err := Parse([]string{"--listen", "[::1]:2"}, func(name string) string { return environment[name] })
	if err != nil {
		t.Fatal(err)
	}
	if settings.Listen != "[::1]:2" || settings.Targets["ingest"] != "ingest:1" || settings.MaxUploadBytes != 5 {
		t.Errorf("got %+v", settings)
	}
	if settings.LogLevel != slog.LevelWarn || !settings.Supervised || len(settings.CORSOrigins) != 0 {
		t.Errorf("got %+v", settings)
	}
}

func TestBadSettingsAreRefusedWithTheFlagAndTheValue(t *testing.T) {
	for _, test := range []struct{ flag, value, says string }{
		{"--listen", "0.0.0.0:7080", "not a loopback address"},
		{"--listen", ":7080", "not a loopback address"},
		{"--listen", "example.org:7080", "not a loopback address"},
		{"--listen", "7080", "HOST:PORT"},
		{"--cors-origins", "https://a.example/path", "not an origin"},
		{"--cors-origins", "https://*.example", "not an origin"},
		{"--log-level", "loud", "loud"},
		{"--tls-certificate", "cert.pem", "belong together"},
		{"--tls-key", "key.pem", "belong together"},
		{"--services-certificate", "cert.pem", "belong together"},
		{"--auth", "maybe", "off, keys"},
		{"--max-upload-bytes", "0", "greater than 0"},
		{"--ingest", "", "--ingest"},
	} {
		_, err := Parse([]string{test.flag, test.value}, none)
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s %s: got %v", test.flag, test.value, err)
		}
	}
	_, err := Parse(nil, func(name string) string {
		if name == "MURPHEY_GATEWAY_DRAIN_S" {
			return "soon"
		}
		return ""
	})
	if err == nil || !strings.Contains(err.Error(), "MURPHEY_GATEWAY_DRAIN_S") {
		t.Errorf("got %v", err)
	}
}

func TestOnlyTLSWithKeysOpensMoreThanLoopback(t *testing.T) {
	safe := []string{"--listen", "0.0.0.0:7400", "--tls-certificate", "cert.pem", "--tls-key", "key.pem", "--auth", "keys"}
	if _, err := Parse(safe, none); err != nil {
		t.Error(err)
	}
	for _, unsafe := range [][]string{safe[:6], append([]string{}, safe[0], safe[1], safe[6], safe[7])} {
		if _, err := Parse(unsafe, none); err == nil || !strings.Contains(err.Error(), "not a loopback address") {
			t.Errorf("%v: got %v", unsafe, err)
		}
	}
	shown := []string{"--services-certificate", "cert.pem", "--services-key", "key.pem"}
	if _, err := Parse(shown, none); err == nil || !strings.Contains(err.Error(), "--services-ca") {
		t.Errorf("got %v", err)
	}
}
