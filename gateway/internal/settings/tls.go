package settings

import (
	"errors"
	"fmt"
	"net"
)

// TLS says which certificates are shown and which are believed, towards clients and towards the services. All are paths of
// PEM files, which are read again when they change.
type TLS struct {
	// Certificate and Key are shown to clients; without them clients are answered in plain.
	Certificate, Key string
	// ServicesCA is the authority of the services' certificates; without it they are called in plain.
	ServicesCA string
	// ServicesCertificate and ServicesKey are shown to services that ask for one.
	ServicesCertificate, ServicesKey string
}

// Auth says whether the services behind ask for API keys or tokens. The gateway passes on what a client shows.
type Auth string

const (
	AuthOff  Auth = "off"
	AuthKeys Auth = "keys"
)

func (s Settings) checkTLS() error {
	if (s.TLS.Certificate == "") != (s.TLS.Key == "") {
		return errors.New("--tls-certificate and --tls-key belong together: set both or neither")
	}
	if (s.TLS.ServicesCertificate == "") != (s.TLS.ServicesKey == "") {
		return errors.New("--services-certificate and --services-key belong together: set both or neither")
	}
	if s.TLS.ServicesCertificate != "" && s.TLS.ServicesCA == "" {
		return errors.New("--services-certificate is shown over TLS only, which needs --services-ca")
	}
	if s.Auth != AuthOff && s.Auth != AuthKeys {
		return fmt.Errorf("--auth: %q is none of off, keys", s.Auth)
	}
	host, _, err := net.SplitHostPort(s.Listen)
	if err != nil {
		return fmt.Errorf("--listen: %w; write HOST:PORT, such as 127.0.0.1:7400", err)
	}
	if !IsLoopback(host) && (s.TLS.Certificate == "" || s.Auth == AuthOff) {
		return fmt.Errorf("--listen: %q is not a loopback address. Without TLS and authentication the gateway listens on "+
			"loopback only: use 127.0.0.1, [::1] or localhost, or set --tls-certificate, --tls-key and, where the services "+
			"ask for keys, --auth keys", host)
	}
	return nil
}
